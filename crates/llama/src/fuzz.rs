//! Opens bytes as a file and uses everything there is: what the targets in `fuzz/` and the
//! property tests call. Whatever the bytes are: an error or a value, never a panic.

use std::path::Path;

use checkpoint::fuzz::two_parts;
use checkpoint::gguf::GgufFile;
use checkpoint::torch::TorchFile;
use checkpoint::{ByteSource, TensorSource, refuse_quantized_config};

use crate::gguf::GgufSource;
use crate::weights::huggingface;
use crate::weights::meta::{InferredSizes, MetaSource, parse_params};

/// What the bytes are called in messages.
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

/// A PyTorch file as the only shard of Meta's.
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
    let _ = refuse_quantized_config(path, text);
    let parsed = [huggingface::parse_config(path, text), parse_params(path, text, sizes)];
    for config in parsed.into_iter().flatten() {
        config.validate().expect("parsed configs are checked");
    }
}

fn read_all(source: &dyn TensorSource) {
    for name in source.shapes().keys() {
        let _ = source.read(name);
    }
}
