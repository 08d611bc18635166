//! Corrupted files: valid files with mutations, and random bytes, see [`testing::hostile`].

use checkpoint::fuzz;
use peak_alloc::PeakAlloc;
use testing::hostile::{corrupt, golden, golden_ggufs, golden_split_gguf, golden_torch_files};

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
    corrupt(&MEMORY, fuzz::gguf, &golden_ggufs(), 1000, 64);
}

#[test]
fn gguf_files_in_parts() {
    corrupt(&MEMORY, fuzz::split_gguf, &[golden_split_gguf()], 1000, 64);
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
    corrupt(&MEMORY, fuzz::torch, &golden_torch_files(), 8000, 64);
}
