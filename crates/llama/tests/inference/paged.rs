//! Sequences in blocks: what a token computes does not depend on the other sequences of a pass, on where
//! its text is cut into passes, or on the blocks.

use burn::tensor::{Device, Tensor};
use kernels::is_fused;
use llama::model::{FixedShape, Linear, PagedSequence};
use llama::{
    Adapter, BlockCache, Error, KvCache, LinearName, Llama, LlamaConfig, NoAdapter, Precision,
};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testing::tiny_model;

use super::open_prompts::{OpenPrompts, Seed};

const BLOCK: usize = BlockCache::BLOCK_TOKENS;
/// Blocks of the caches.
const BLOCKS: usize = 24;

/// The families with contexts of several blocks.
fn configs() -> Vec<LlamaConfig> {
    let config = |config| LlamaConfig { max_positions: 200, ..config };
    tiny_model::configs().into_iter().map(config).collect()
}

/// A text with its adapter, and the blocks that it has so far.
struct Text {
    tokens: Vec<u32>,
    adapter: Seed,
    done: usize,
    blocks: Vec<u32>,
}

impl Text {
    fn new(len: usize, adapter: Seed) -> Self {
        let tokens = tiny_model::tokens(len as u64, len);
        Self { tokens, adapter, done: 0, blocks: Vec::new() }
    }

    /// Texts of one to seven blocks with all kinds of adapters.
    fn several() -> Vec<Self> {
        let texts = [(97, Some(1)), (33, None), (200, Some(2)), (5, Some(1)), (64, Some(3))];
        texts.map(|(len, adapter)| Self::new(len, adapter)).into()
    }

    fn is_done(&self) -> bool {
        self.done == self.tokens.len()
    }

    /// Takes free blocks for the next `len` tokens.
    fn reserve(&mut self, len: usize, free: &mut Vec<u32>) {
        let needed = (self.done + len).div_ceil(BLOCK);
        while self.blocks.len() < needed {
            self.blocks.push(free.pop().expect("the cache has enough blocks"));
        }
    }

    fn next(&self, len: usize) -> PagedSequence<'_> {
        let tokens = &self.tokens[self.done..self.done + len];
        PagedSequence { tokens, past: self.done, blocks: &self.blocks }
    }
}

/// Blocks of an empty cache in random order.
fn shuffled_blocks(rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut free = (0..BLOCKS as u32).collect::<Vec<_>>();
    free.shuffle(rng);
    free
}

/// Logits of all new tokens of some sequences, by sequence.
fn pass(
    llama: &Llama,
    sequences: &[PagedSequence<'_>],
    adapters: &[Seed],
    shape: Option<FixedShape>,
    cache: &mut BlockCache,
) -> Vec<Vec<f32>> {
    let mut seeds = adapters.to_vec();
    if let Some(shape) = shape.filter(|_| !llama.is_fused()) {
        seeds.resize(shape.sequences, None);
    }
    let prompts = OpenPrompts::new(llama.config(), &seeds, &llama.device());
    let output = llama.forward_paged(sequences, shape, cache, &prompts).unwrap();
    let of_sequence = sequences.iter().enumerate().map(|(index, sequence)| {
        let selected = (0..sequence.tokens.len()).map(|token| (index, token)).collect::<Vec<_>>();
        let hidden = llama.final_norm(output.select(&selected), &NoAdapter);
        let logits = testing::values(llama.logits(hidden, &NoAdapter));
        logits[..selected.len() * tiny_model::VOCAB].to_vec()
    });
    of_sequence.collect()
}

/// Logits of a text in one pass of its own.
fn alone(llama: &Llama, text: &Text) -> Vec<f32> {
    let blocks = (0..BLOCKS as u32).collect::<Vec<_>>();
    let sequence = PagedSequence { tokens: &text.tokens, past: 0, blocks: &blocks };
    let mut cache = BlockCache::new(llama.config(), BLOCKS, &llama.device());
    pass(llama, &[sequence], &[text.adapter], None, &mut cache).remove(0)
}

/// Bit for bit on devices with fused kernels.
#[track_caller]
fn assert_same(what: &str, found: &[f32], expected: &[f32], device: &Device) {
    if is_fused(device) {
        assert!(found == expected, "{what}: not the same bits");
    } else {
        testing::assert_values_close(what, found, expected, &[expected.len()], 2e-4);
    }
}

/// Runs texts in passes of random parts, in random blocks, and compares each with a pass of its own.
fn compare_random_passes(llama: &Llama, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut free = shuffled_blocks(&mut rng);
    let mut cache = BlockCache::new(llama.config(), BLOCKS, &llama.device());
    let mut texts = Text::several();
    let mut found = vec![Vec::new(); texts.len()];
    while texts.iter().any(|text| !text.is_done()) {
        let mut parts = Vec::new();
        for (index, text) in texts.iter_mut().enumerate() {
            let left = text.tokens.len() - text.done;
            if left == 0 || rng.random_range(0..3) == 0 {
                continue;
            }
            // Often one token, as in decoding.
            let len = if rng.random() { 1 } else { rng.random_range(1..=left) };
            text.reserve(len, &mut free);
            parts.push((index, len));
        }
        if parts.is_empty() {
            continue;
        }
        parts.shuffle(&mut rng);
        let sequences = parts.iter().map(|&(index, len)| texts[index].next(len));
        let adapters = parts.iter().map(|&(index, _len)| texts[index].adapter).collect::<Vec<_>>();
        let sequences = sequences.collect::<Vec<_>>();
        let logits = pass(llama, &sequences, &adapters, None, &mut cache);
        for ((index, len), logits) in parts.into_iter().zip(logits) {
            found[index].extend(logits);
            texts[index].done += len;
        }
    }
    for (text, found) in texts.iter().zip(found) {
        let what = format!("{} tokens of {:?}", text.tokens.len(), llama.config().architecture);
        assert_same(&what, &found, &alone(llama, text), &llama.device());
    }
}

#[test]
fn parts_of_sequences_in_mixed_passes_equal_whole_sequences_alone() {
    for device in testing::devices() {
        for (seed, config) in (0..).zip(configs()) {
            compare_random_passes(&tiny_model::model(config, &device), seed);
        }
    }
}

#[test]
fn parts_of_sequences_equal_whole_sequences_in_every_precision() {
    for device in testing::devices() {
        for (precision, _name) in Precision::ALL {
            if precision.is_supported(&device) && is_fused(&device) {
                let config = LlamaConfig { max_positions: 200, ..tiny_model::config() };
                let llama = tiny_model::model_with_precision(*precision, config, &device);
                compare_random_passes(&llama, 7);
            }
        }
    }
}

#[test]
fn a_sequence_in_blocks_equals_a_row_of_a_kv_cache() {
    for device in testing::devices() {
        for config in configs() {
            let llama = tiny_model::model(config.clone(), &device);
            let text = Text::new(97, Some(4));
            let prompts = OpenPrompts::new(&config, &[Some(4)], &device).unpacked();
            let mut cache = KvCache::new(&config, vec![0], 97, &device).unwrap();
            let parts = [&text.tokens[..40], &text.tokens[40..41], &text.tokens[41..]];
            let logits = parts.map(|part| {
                let tokens = llama.tokens(&[part.to_vec()]).unwrap();
                let hidden = llama.forward(tokens, Some(&mut cache), &prompts).unwrap();
                testing::values(llama.logits(hidden, &NoAdapter))
            });
            assert_same("logits", &logits.concat(), &alone(&llama, &text), &device);
        }
    }
}

#[test]
fn sequences_may_share_the_blocks_of_a_common_beginning() {
    for device in testing::devices() {
        let config = LlamaConfig { max_positions: 200, ..tiny_model::config() };
        let llama = tiny_model::model(config.clone(), &device);
        let mut cache = BlockCache::new(&config, BLOCKS, &device);
        let first = Text { blocks: vec![5, 9, 2], ..Text::new(70, Some(1)) };
        pass(&llama, &[first.next(70)], &[Some(1)], None, &mut cache);
        let mut second = Text { blocks: vec![5, 9, 7], done: 2 * BLOCK, ..Text::new(70, Some(1)) };
        second.tokens[2 * BLOCK..].reverse();
        let found = pass(&llama, &[second.next(6)], &[Some(1)], None, &mut cache);
        let expected = &alone(&llama, &second)[2 * BLOCK * tiny_model::VOCAB..];
        assert_same("logits", &found[0], expected, &device);
    }
}

/// One token of each of some texts in a pass of four, then a part of another text's prompt.
#[test]
fn in_passes_of_fixed_shape_a_sequence_computes_what_it_does_alone() {
    let decode = Some(FixedShape { sequences: 4, tokens: 1 });
    let prefill = Some(FixedShape { sequences: 1, tokens: BLOCK });
    for device in testing::devices() {
        for config in configs() {
            let llama = tiny_model::model(config.clone(), &device);
            let run = |lens: &[usize]| {
                let mut cache = BlockCache::new(&config, BLOCKS, &device);
                let mut free = shuffled_blocks(&mut ChaCha8Rng::seed_from_u64(lens.len() as u64));
                let texts = lens.iter().map(|&len| Text::new(len, Some(len as u64)));
                let mut texts = texts.collect::<Vec<_>>();
                let mut found = vec![Vec::new(); texts.len()];
                for (text, found) in texts.iter_mut().zip(&mut found) {
                    while text.done + 3 < text.tokens.len() {
                        let len = (text.tokens.len() - 3 - text.done).min(BLOCK);
                        text.reserve(len, &mut free);
                        let logits =
                            pass(&llama, &[text.next(len)], &[text.adapter], prefill, &mut cache);
                        found.extend(logits.concat());
                        text.done += len;
                    }
                }
                for _ in 0..3 {
                    for text in &mut texts {
                        text.reserve(1, &mut free);
                    }
                    let sequences = texts.iter().map(|text| text.next(1)).collect::<Vec<_>>();
                    let adapters = texts.iter().map(|text| text.adapter).collect::<Vec<_>>();
                    let logits = pass(&llama, &sequences, &adapters, decode, &mut cache);
                    for ((text, found), logits) in texts.iter_mut().zip(&mut found).zip(logits) {
                        found.extend(logits);
                        text.done += 1;
                    }
                }
                found
            };
            let lens = [80, 6, 70, 33];
            for (len, found) in lens.into_iter().zip(run(&lens)) {
                assert!(found == run(&[len])[0], "{len} tokens: not the same bits");
                let expected = alone(&llama, &Text::new(len, Some(len as u64)));
                testing::assert_values_close("logits", &found, &expected, &[expected.len()], 1e-4);
            }
        }
    }
}

#[test]
fn selected_rows_of_a_fixed_shape_are_always_as_many() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        let mut cache = BlockCache::new(llama.config(), 2, &device);
        let sequence = PagedSequence { tokens: &[1, 2], past: 0, blocks: &[1] };
        let mut rows = |shape| {
            let output = llama.forward_paged(&[sequence], shape, &mut cache, &NoAdapter).unwrap();
            output.select(&[(0, 1)]).dims()
        };
        let shape = FixedShape { sequences: 3, tokens: 4 };
        let fixed = if is_fused(&device) { 1 } else { 3 };
        assert_eq!([rows(Some(shape)), rows(None)], [[fixed, 1, 32], [1, 1, 32]]);
    }
}

/// Makes every value NaN.
struct BrokenValues;

impl Adapter for BrokenValues {
    fn linear(
        &self,
        _layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        (name == LinearName::Value).then(|| linear.forward(input.clone()) * f32::NAN)
    }
}

#[test]
fn what_another_sequence_left_in_a_block_has_no_effect() {
    for device in testing::devices() {
        let config = LlamaConfig { max_positions: 200, ..tiny_model::config() };
        let llama = tiny_model::model(config.clone(), &device);
        let mut cache = BlockCache::new(&config, BLOCKS, &device);
        let broken = Text { blocks: vec![3, 4, 6], ..Text::new(70, None) };
        llama.forward_paged(&[broken.next(70)], None, &mut cache, &BrokenValues).unwrap();
        let text = Text { blocks: vec![4, 3], ..Text::new(35, None) };
        let found = pass(&llama, &[text.next(35)], &[None], None, &mut cache);
        assert_same("logits", &found[0], &alone(&llama, &text), &device);
    }
}

#[test]
fn invalid_tokens_and_too_long_sequences_are_errors() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        let mut cache = BlockCache::new(llama.config(), 4, &device);
        let mut error = |tokens: &[u32], past| {
            let sequence = PagedSequence { tokens, past, blocks: &[0, 1, 2] };
            llama.forward_paged(&[sequence], None, &mut cache, &NoAdapter).unwrap_err()
        };
        assert!(matches!(error(&[1, 128], 0), Error::TokenId { id: 128, vocab_size: 128 }));
        assert_eq!(
            error(&[1, 2], 63).to_string(),
            "65 tokens do not fit: the model's context has room for 64"
        );
    }
}

#[test]
#[should_panic(expected = "33 tokens in blocks for 32")]
fn too_few_blocks_panic() {
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    let mut cache = BlockCache::new(llama.config(), 4, &testing::flex());
    let sequence = PagedSequence { tokens: &[1], past: 32, blocks: &[0] };
    let _ = llama.forward_paged(&[sequence], None, &mut cache, &NoAdapter);
}

#[test]
fn a_block_has_the_bytes_of_its_keys_and_values() {
    // 3 layers, 2 heads of 8 values, keys and values in f32.
    let expected = 3 * 2 * 8 * 2 * 4 * BLOCK;
    assert_eq!(BlockCache::block_bytes(&tiny_model::config()), expected);
}
