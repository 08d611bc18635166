//! Models in 8 and 4 bits: what is kept, what is rounded, and that they compute as dense ones do.

use std::collections::BTreeMap;
use std::path::Path;

use crate::tiny::{self, SeededWeights, model_with_precision};
use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::TensorSource;
use checkpoint::{BitWidth, QuantizedBlocks};
use llama::model::Weight;
use llama::weights::{self, huggingface};
use llama::{
    Error, GenerationConfig, KvCache, Llama, LlamaConfig, ModelSource, NoAdapter, Precision,
    Result, generate,
};
use testing::{assert_close, devices, flex};

const QUANTISED: [Precision; 2] = [Precision::Bits8, Precision::Bits4];

/// With a head of its own, and with the embedding table as head.
fn configs() -> [LlamaConfig; 2] {
    [tiny::config(), LlamaConfig { tied_head: true, ..tiny::config() }]
}

fn logits(llama: &Llama) -> Tensor<3> {
    let tokens = llama.tokens(&[tiny::tokens(1, 12), tiny::tokens(2, 12)]).unwrap();
    llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
}

/// Every large matrix of a model.
fn matrices(llama: &mut Llama) -> Vec<&mut Weight> {
    let mut all = vec![&mut llama.embedding];
    for layer in &mut llama.layers {
        let (attention, feed_forward) = (&mut layer.attention, &mut layer.feed_forward);
        for linear in [&mut attention.query, &mut attention.key, &mut attention.value] {
            all.push(&mut linear.weight);
        }
        all.push(&mut attention.output.weight);
        all.extend(feed_forward.gate.iter_mut().map(|linear| &mut linear.weight));
        all.extend([&mut feed_forward.up.weight, &mut feed_forward.down.weight]);
    }
    all.extend(llama.head.as_mut().map(|head| &mut head.weight));
    all
}

/// The same model with its matrices in f32.
fn dense(mut llama: Llama) -> Llama {
    for weight in matrices(&mut llama) {
        *weight = weight.to_dense().into();
    }
    llama
}

#[test]
fn a_quantized_model_computes_as_the_dense_model_of_its_weights() {
    for device in devices() {
        for precision in QUANTISED {
            for config in configs() {
                let quantized = model_with_precision(precision, config, &device);
                assert_eq!(quantized.precision(), precision);
                let expected = logits(&dense(quantized.clone()));
                assert_close(&format!("{precision} logits"), logits(&quantized), expected, 1e-5);
            }
        }
    }
}

/// Root mean square of a tensor's numbers.
fn size(tensor: Tensor<3>) -> f32 {
    testing::values(tensor.square().mean().sqrt())[0]
}

#[test]
fn fewer_bits_stay_near_the_model_in_f32() {
    let source = ModelSource::open(testing::golden_folder().join("../../assets/tiny-llama"));
    let source = source.unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let tokens = tokenizer.encode("Ada lives in Oakham. She has a cat.").unwrap();
    let logits = |precision| {
        let llama = source.load(precision, &flex()).unwrap();
        let tokens = llama.tokens(std::slice::from_ref(&tokens)).unwrap();
        llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
    };
    let expected = logits(Precision::F32);
    for (precision, allowed) in [(Precision::Bits8, 0.01), (Precision::Bits4, 0.12)] {
        let off = size(logits(precision) - expected.clone()) / size(expected.clone());
        // BitWidth are saved somewhere: no difference at all would mean that nothing was rounded.
        assert!(off > allowed / 100.0 && off < allowed, "{precision}: off by {off} of their size");
    }
}

#[test]
fn cached_logits_are_the_uncached_ones() {
    for device in devices() {
        for config in tiny::configs() {
            let llama = model_with_precision(Precision::Bits4, config.clone(), &device);
            let text = tiny::tokens(1, 24);
            let read = |part: &[u32], state: Option<&mut KvCache>| {
                let tokens = llama.tokens(&[part.to_vec()]).unwrap();
                llama.logits(llama.forward(tokens, state, &NoAdapter).unwrap(), &NoAdapter)
            };
            let expected = read(&text, None);
            let mut state = KvCache::new(&config, vec![0], 24, &device).unwrap();
            let parts = [&text[..1], &text[1..20], &text[20..21], &text[21..]];
            let parts = parts.map(|part| read(part, Some(&mut state)));
            assert_close("logits", Tensor::cat(parts.to_vec(), 1), expected, 1e-4);
        }
    }
}

#[test]
fn a_row_answers_alone_as_in_a_batch() {
    let llama = model_with_precision(Precision::Bits4, tiny::config(), &flex());
    let config = GenerationConfig { max_new_tokens: 8, ..GenerationConfig::default() };
    let prompts = [4, 9, 6].map(|len| tiny::tokens(len as u64, len)).to_vec();
    let together = generate(&llama, &NoAdapter, &prompts, &config).unwrap();
    for (prompt, expected) in prompts.into_iter().zip(together) {
        let alone = generate(&llama, &NoAdapter, &[prompt], &config).unwrap();
        assert_eq!(alone[0].tokens, expected.tokens);
    }
}

#[test]
fn the_bytes_held_are_counted() {
    let device = flex();
    let numbers = |config: &LlamaConfig| {
        let specs = weights::expected_tensors(config);
        let matrices = specs.iter().filter(|spec| spec.shape.len() > 1);
        matrices.map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>()
    };
    for config in configs() {
        let numbers = numbers(&config);
        let held =
            |precision| model_with_precision(precision, config.clone(), &device).weight_bytes();
        assert_eq!(held(Precision::F32), numbers * 4);
        assert_eq!(held(Precision::BF16), numbers * 2);
        // Blocks of 32, where d_ff is the row of 16: scale and minimum are 4 bytes a block.
        let down = config.n_layers * config.d_model * config.d_ff;
        let scales = (numbers - down) / 32 * 4 + down / 16 * 4;
        assert_eq!(held(Precision::Bits8), numbers + scales);
        assert_eq!(held(Precision::Bits4), numbers / 2 + scales);
    }
}

#[test]
fn a_quantized_model_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let llama = model_with_precision(Precision::Bits8, tiny::config(), &flex());
    let error = huggingface::save(&llama, folder.path(), DType::F32).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model config: the precision of a model to save is q8, expected f32, f16 or bf16: Hugging \
         Face's format has no such quantized weights"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Weights that are stored in blocks of `bits` already; `spoilt` has a scale that is no number.
struct Stored {
    inner: SeededWeights,
    bits: BitWidth,
    spoilt: Option<&'static str>,
}

impl Stored {
    fn new(bits: BitWidth) -> Self {
        Self { inner: SeededWeights::new(&tiny::config()), bits, spoilt: None }
    }

    fn load(&self, precision: Precision, device: &Device) -> Result<Llama> {
        weights::load(tiny::config(), self, precision, device)
    }
}

impl TensorSource for Stored {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        self.inner.shapes()
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        match self.read_blocks(name)? {
            Some(blocks) => Ok(TensorData::new(blocks.dequantize(), blocks.shape)),
            None => self.inner.read(name),
        }
    }

    fn read_blocks(&self, name: &str) -> checkpoint::Result<Option<QuantizedBlocks>> {
        let data = self.inner.read(name)?;
        let &[rows, columns] = &data.shape().to_vec()[..] else { return Ok(None) };
        let blocks =
            QuantizedBlocks::quantize(data.as_slice().unwrap(), [rows, columns], self.bits);
        let mut blocks = blocks.expect("whole blocks");
        if self.spoilt == Some(name) {
            blocks.scales[3] = f32::INFINITY;
        }
        Ok(Some(blocks))
    }
}

#[test]
fn stored_blocks_are_kept_if_they_are_small_enough() {
    for device in devices() {
        for (stored, precision, bits) in [
            (BitWidth::Four, Precision::Bits4, 4),
            (BitWidth::Four, Precision::Bits8, 4),
            (BitWidth::Eight, Precision::Bits8, 8),
            (BitWidth::Eight, Precision::Bits4, 4),
        ] {
            let source = Stored::new(stored);
            let mut plain = source.load(Precision::F32, &device).unwrap();
            let mut found = source.load(precision, &device).unwrap();
            for (found, plain) in matrices(&mut found).into_iter().zip(matrices(&mut plain)) {
                assert!(!matches!(found, Weight::Dense(_)), "{found:?}");
                assert_eq!(found.bits(), bits);
                let same = testing::values(found.to_dense()) == testing::values(plain.to_dense());
                assert_eq!(same, stored.count() == bits, "{stored:?} as {precision}");
            }
        }
    }
}

#[test]
fn a_scale_that_is_no_number_is_reported() {
    const NAME: &str = "model.layers.1.mlp.up_proj.weight";
    let source = Stored { spoilt: Some(NAME), ..Stored::new(BitWidth::Eight) };
    for precision in [Precision::F32, Precision::Bits8, Precision::Bits4] {
        let error = source.load(precision, &flex()).unwrap_err();
        let Error::Weights { report, .. } = error else { panic!("{error}") };
        assert_eq!(report.not_finite, [NAME], "{precision}");
    }
}
