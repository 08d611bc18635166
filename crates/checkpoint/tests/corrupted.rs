//! Corrupted files: valid files with mutations, and random bytes, see [`testing::hostile`].

use checkpoint::fuzz;
use peak_alloc::PeakAlloc;
use testing::hostile::{corrupt, golden};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn safetensors_files() {
    let small = golden("llama-mha/adapter/adapter_model.safetensors");
    corrupt(
        &MEMORY,
        fuzz::safetensors,
        &[small, golden("llama-bias/base/model.safetensors")],
        2000,
        64,
    );
}

#[test]
fn gguf_files() {
    let valid =
        ["gguf/tiny-llama.gguf", "gguf/tiny-llama-spm.gguf", "gguf/quants.gguf"].map(golden);
    corrupt(&MEMORY, fuzz::gguf, &valid, 1000, 64);
}

/// Both parts in one input.
fn split_gguf(name: &str) -> Vec<u8> {
    let [first, second] = [1, 2].map(|n| golden(&format!("gguf/{name}-0000{n}-of-00002.gguf")));
    [&(first.len() as u32).to_le_bytes()[..], &first, &second].concat()
}

#[test]
fn gguf_files_in_parts() {
    corrupt(&MEMORY, fuzz::split_gguf, &[split_gguf("tiny-split")], 1000, 64);
}

#[test]
fn indexes_of_weights() {
    let index = br#"{"metadata": {"total_size": 8}, "weight_map": {
        "model.embed_tokens.weight": "pytorch_model-00001-of-00002.bin",
        "model.norm.weight": "pytorch_model-00002-of-00002.bin"}}"#;
    corrupt(&MEMORY, fuzz::weight_index, &[index.to_vec()], 3000, 64);
}

#[test]
fn pytorch_files() {
    let names = ["zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth", "hostile.pth"];
    let mut valid = names.map(|name| golden(&format!("torch/{name}"))).to_vec();
    valid.push(golden("meta/consolidated.00.pth"));
    corrupt(&MEMORY, fuzz::torch, &valid, 8000, 64);
}
