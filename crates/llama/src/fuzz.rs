//! Entry points for fuzzing: open bytes as a file and read everything in it. Any bytes must give an error or
//! a value, never a panic. The targets in `fuzz/` and `tests/corrupted.rs` call them.

use std::path::Path;

use checkpoint::fuzz::two_parts;
use checkpoint::gguf::GgufFile;
use checkpoint::torch::TorchFile;
use checkpoint::{ByteSource, TensorSource, reject_quantized_config};

use crate::gguf::GgufSource;
use crate::weights::huggingface;
use crate::weights::meta::{InferredSizes, MetaSource, parse_params};

/// Name of the file in messages.
const NAME: &str = "fuzz";

/// A GGUF file, its tokenizer and its weights.
pub fn gguf(bytes: &[u8]) {
    checkpoint::fuzz::gguf(bytes);
    text::fuzz::gguf(bytes);
    let Ok(file) = GgufFile::open(ByteSource::memory(NAME, bytes.to_vec())) else { return };
    if let Ok(source) = GgufSource::new(file) {
        read_all(&source);
    }
}

/// A GGUF file in two parts, as [`two_parts`] takes them.
pub fn split_gguf(bytes: &[u8]) {
    checkpoint::fuzz::split_gguf(bytes);
    text::fuzz::split_gguf(bytes);
    let Some(file) = two_parts(bytes) else { return };
    if let Ok(source) = GgufSource::new(file) {
        read_all(&source);
    }
}

/// A PyTorch file as a single shard of a Meta folder.
pub fn meta_shard(bytes: &[u8]) {
    let Ok(file) = TorchFile::open(ByteSource::memory(NAME, bytes.to_vec())) else { return };
    if let Ok(source) = MetaSource::new(Path::new(NAME), vec![file]) {
        read_all(&source);
    }
}

/// `config.json` and `params.json`.
pub fn configs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new(NAME);
    let sizes = InferredSizes { vocab_size: 3, d_ff: 4, tied_head: false };
    let _ = reject_quantized_config(path, text);
    let parsed = [huggingface::parse_config(path, text), parse_params(path, text, sizes)];
    for config in parsed.into_iter().flatten() {
        config.validate().expect("parsed configs are valid");
    }
}

fn read_all(source: &dyn TensorSource) {
    for name in source.shapes().keys() {
        let _ = source.read(name);
    }
}
