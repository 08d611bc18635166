//! Hostile files: valid ones with changes in them, and noise. Every reader must answer with a value
//! or an error, without a panic, and without allocating more than its input calls for.
//!
//! `fuzz/` has the same for `cargo fuzz`, without a bound on time.

use std::sync::{Mutex, PoisonError};

use llama::fuzz;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::sample::Index;
use testing::golden_folder;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What any reader may take for its windows, tables and messages, whatever the file.
const FREE: usize = 2 << 20;

/// Calls a reader, and holds what it allocated against the length of its input.
fn check(reader: fn(&[u8]), bytes: &[u8], times: usize) {
    // The allocator counts for the whole process: one at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    reader(bytes);
    let peak = MEMORY.peak_usage().saturating_sub(before);
    let allowed = FREE + times * bytes.len();
    assert!(peak <= allowed, "{peak} bytes for a file of {} (allowed {allowed})", bytes.len());
}

/// Something done to a file.
#[derive(Debug, Clone)]
enum Change {
    Flip(Place, u8),
    /// Numbers that lengths, counts and offsets love to have.
    Lie(Place, u64, usize),
    Cut(Index),
    Remove(Place, usize),
    Repeat(Place, usize),
}

/// Headers are at the ends of files: most changes go there.
#[derive(Debug, Clone)]
enum Place {
    Near(u16),
    NearEnd(u16),
    Anywhere(Index),
}

impl Place {
    fn of(&self, len: usize) -> usize {
        match self {
            Self::Near(place) => *place as usize % 2048 % len,
            Self::NearEnd(place) => len - 1 - *place as usize % 2048 % len,
            Self::Anywhere(index) => index.index(len),
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u16>().prop_map(Place::Near),
        any::<u16>().prop_map(Place::NearEnd),
        any::<Index>().prop_map(Place::Anywhere),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let lies = prop::sample::select(vec![
        0,
        1,
        255,
        1 << 15,
        u64::from(u32::MAX),
        1 << 31,
        1 << 24,
        1 << 40,
        1 << 62,
        u64::MAX >> 1,
        u64::MAX,
    ]);
    let width = prop::sample::select(vec![1, 2, 4, 8]);
    prop_oneof![
        4 => (place(), 1..=u8::MAX).prop_map(|(place, bits)| Change::Flip(place, bits)),
        4 => (place(), lies, width).prop_map(|(place, lie, len)| Change::Lie(place, lie, len)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (place(), 1..40_usize).prop_map(|(place, len)| Change::Remove(place, len)),
        1 => (place(), 1..400_usize).prop_map(|(place, len)| Change::Repeat(place, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let part = |place: &Place, len: usize| {
        let start = place.of(bytes.len());
        start..(start + len).min(bytes.len())
    };
    match change {
        Change::Flip(place, bits) => {
            let place = place.of(bytes.len());
            bytes[place] ^= bits;
        }
        Change::Lie(place, lie, len) => {
            let part = part(place, *len);
            let lie = lie.to_le_bytes();
            let len = part.len();
            bytes[part].copy_from_slice(&lie[..len]);
        }
        Change::Cut(index) => bytes.truncate(index.index(bytes.len())),
        Change::Remove(place, len) => drop(bytes.drain(part(place, *len))),
        Change::Repeat(place, len) => {
            let part = part(place, *len);
            let (end, copy) = (part.end, bytes[part].to_vec());
            bytes.splice(end..end, copy);
        }
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path = golden_folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a reader over valid files, changed ones and noise.
fn torment(reader: fn(&[u8]), valid: &[Vec<u8>], cases: u32, times: usize) {
    for bytes in valid {
        check(reader, bytes, times);
    }
    let config = ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let changed = (0..valid.len(), prop::collection::vec(change(), 1..5));
    runner
        .run(&changed, |(index, changes)| {
            let mut bytes = valid[index].clone();
            for change in &changes {
                apply(&mut bytes, change);
            }
            check(reader, &bytes, times);
            Ok(())
        })
        .unwrap();
    // Noise behind a good start, so that it is not the magic number that stops it.
    let noise = (prop::collection::vec(any::<u8>(), 0..800), 0..valid.len(), 0..48_usize);
    runner
        .run(&noise, |(noise, index, start)| {
            let valid = &valid[index];
            check(reader, &[&valid[..start.min(valid.len())], &noise].concat(), times);
            Ok(())
        })
        .unwrap();
}

#[test]
fn safetensors_files() {
    let small = golden("llama-mha/adapter/adapter_model.safetensors");
    torment(fuzz::safetensors, &[small, golden("llama-bias/base/model.safetensors")], 2000, 64);
}

#[test]
fn gguf_files() {
    let valid =
        ["gguf/tiny-llama.gguf", "gguf/tiny-llama-spm.gguf", "gguf/quants.gguf"].map(golden);
    torment(fuzz::gguf, &valid, 1000, 64);
}

#[test]
fn layers_that_a_gguf_file_does_not_have_cost_nothing() {
    let mut bytes = golden("gguf/tiny-llama.gguf");
    // Behind the key's text stand the value's type and the value.
    let key = b"llama.block_count";
    let place = bytes.windows(key.len()).position(|part| part == key).unwrap() + key.len() + 4;
    assert_eq!(bytes[place..place + 4], 3_u32.to_le_bytes());
    bytes[place..place + 4].copy_from_slice(&4096_u32.to_le_bytes());
    check(fuzz::gguf, &bytes, 16);
}

/// The two parts as the reader takes them.
fn split_gguf(name: &str) -> Vec<u8> {
    let [first, second] = [1, 2].map(|n| golden(&format!("gguf/{name}-0000{n}-of-00002.gguf")));
    [&(first.len() as u32).to_le_bytes()[..], &first, &second].concat()
}

#[test]
fn gguf_files_in_parts() {
    torment(fuzz::split_gguf, &[split_gguf("tiny-split")], 1000, 64);
}

#[test]
fn indexes_of_weights() {
    let index = br#"{"metadata": {"total_size": 8}, "weight_map": {
        "model.embed_tokens.weight": "pytorch_model-00001-of-00002.bin",
        "model.norm.weight": "pytorch_model-00002-of-00002.bin"}}"#;
    torment(fuzz::weight_index, &[index.to_vec()], 3000, 64);
}

#[test]
fn pytorch_files() {
    let names = ["zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth", "hostile.pth"];
    let mut valid = names.map(|name| golden(&format!("torch/{name}"))).to_vec();
    valid.push(golden("meta/consolidated.00.pth"));
    torment(fuzz::torch, &valid, 8000, 64);
}

#[test]
fn tokenizer_models() {
    let valid = ["meta/tokenizer.model", "meta/llama3_tokenizer.model"].map(golden);
    torment(fuzz::tokenizer_model, &valid, 600, 256);
}

#[test]
fn configs() {
    let names =
        ["meta/params.json", "llama-rope3/base/config.json", "mistral-sw8/base/config.json"];
    torment(fuzz::configs, &names.map(golden), 3000, 64);
}

#[test]
fn files_beside_a_tokenizer() {
    let settings = br#"{"eos_token": {"content": "<x>", "lstrip": true}, "pad_token": "<s>",
        "added_tokens_decoder": {"3": {"content": "<s>", "special": true, "normalized": false}},
        "additional_special_tokens": ["a", "b"], "extra_special_tokens": {"image_token": "i"},
        "eos_token_id": [1, 2], "tokenizer_class": "GPT2Tokenizer", "chat_template": "T"}"#;
    torment(fuzz::configs, &[settings.to_vec(), b"{\"a\": 0, \"b\": 7}".to_vec()], 3000, 64);
}

#[test]
fn chat_templates() {
    let sources = [
        "{% for m in messages %}{{ '<|%s|>' % m.role | trim }}{% generation %}{{ m['content'] }}\
         {% endgeneration %}{% endfor %}",
        "{%- raw %}{{ '%s' % (a, [1, {'b': \"}}\"}]) }}{% endraw -%}{# '%' #}{{ x % 'é' ~ -1 }}",
    ];
    torment(fuzz::chat_template, &sources.map(|source| source.as_bytes().to_vec()), 5000, 64);
}
