//! Corrupted files: valid files with mutations, and random bytes, see [`testing::hostile`].

use llama::fuzz;
use peak_alloc::PeakAlloc;
use testing::hostile::{
    check, corrupt, golden, golden_ggufs, golden_split_gguf, golden_torch_files,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn gguf_files() {
    corrupt(&MEMORY, fuzz::gguf, &golden_ggufs(), 1000, 64);
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

#[test]
fn gguf_files_in_parts() {
    corrupt(&MEMORY, fuzz::split_gguf, &[golden_split_gguf()], 1000, 64);
}

#[test]
fn shards_of_meta() {
    corrupt(&MEMORY, fuzz::meta_shard, &golden_torch_files(), 8000, 64);
}

#[test]
fn configs() {
    let names =
        ["meta/params.json", "llama-rope3/base/config.json", "mistral-sw8/base/config.json"];
    corrupt(&MEMORY, fuzz::configs, &names.map(golden), 3000, 64);
}
