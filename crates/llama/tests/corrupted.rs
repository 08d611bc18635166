//! Corrupted files: valid files with mutations, and random bytes, see [`testing::hostile`].

use llama::fuzz;
use peak_alloc::PeakAlloc;
use testing::hostile::{check, corrupt, golden};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn gguf_files() {
    let valid =
        ["gguf/tiny-llama.gguf", "gguf/tiny-llama-spm.gguf", "gguf/quants.gguf"].map(golden);
    corrupt(&MEMORY, fuzz::gguf, &valid, 1000, 64);
}

#[test]
fn a_wrong_number_of_layers_allocates_nothing() {
    let mut bytes = golden("gguf/tiny-llama.gguf");
    // The value's type and the value follow the key.
    let key = b"llama.block_count";
    let offset = bytes.windows(key.len()).position(|part| part == key).unwrap() + key.len() + 4;
    assert_eq!(bytes[offset..offset + 4], 3_u32.to_le_bytes());
    bytes[offset..offset + 4].copy_from_slice(&4096_u32.to_le_bytes());
    check(&MEMORY, fuzz::gguf, &bytes, 16);
}

/// Both parts as one input.
fn split_gguf(name: &str) -> Vec<u8> {
    let [first, second] = [1, 2].map(|n| golden(&format!("gguf/{name}-0000{n}-of-00002.gguf")));
    [&(first.len() as u32).to_le_bytes()[..], &first, &second].concat()
}

#[test]
fn gguf_files_in_parts() {
    corrupt(&MEMORY, fuzz::split_gguf, &[split_gguf("tiny-split")], 1000, 64);
}

#[test]
fn shards_of_meta() {
    let names = ["zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth", "hostile.pth"];
    let mut valid = names.map(|name| golden(&format!("torch/{name}"))).to_vec();
    valid.push(golden("meta/consolidated.00.pth"));
    corrupt(&MEMORY, fuzz::meta_shard, &valid, 8000, 64);
}

#[test]
fn configs() {
    let names =
        ["meta/params.json", "llama-rope3/base/config.json", "mistral-sw8/base/config.json"];
    corrupt(&MEMORY, fuzz::configs, &names.map(golden), 3000, 64);
}
