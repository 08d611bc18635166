//! Opens bytes as a file and uses everything there is: what the targets in `fuzz/` and the
//! property tests call. Whatever the bytes are: an error or a value, never a panic.

use std::path::Path;

use crate::chat_template::ChatTemplate;
use crate::gguf::{GgufFile, GgufSource};
use crate::tokenizer::Tokenizer;
use crate::tokenizer_files::TokenizerFiles;
use crate::torch::TorchFile;
use crate::vocabulary;
use crate::weights::meta::{MetaSource, InferredSizes, parse_params};
use crate::weights::{
    Bytes, SafetensorsFile, TensorSource, WeightFiles, huggingface, refuse_quantised_config,
};

/// What the bytes are called in messages.
const NAME: &str = "fuzz";

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let Ok(file) = SafetensorsFile::new(Bytes::memory(NAME, bytes.to_vec())) else { return };
    let dtypes = file.dtypes();
    for name in file.shapes().keys() {
        let read = file.read(name);
        assert_eq!(
            read.is_ok(),
            dtypes[name].is_read(),
            "tensors that passed the check can be read"
        );
    }
}

/// A GGUF file, its tokenizer and its weights.
pub fn gguf(bytes: &[u8]) {
    let Ok(file) = GgufFile::open(Bytes::memory(NAME, bytes.to_vec())) else { return };
    let _ = file.summary().to_string();
    if let Ok(tokenizer) = file.tokenizer() {
        use_tokenizer(&tokenizer);
    }
    for name in file.tensors().keys() {
        file.read(name).expect("tensors that passed the check can be read");
    }
    if let Ok(source) = GgufSource::new(file) {
        read_all(&source);
    }
}

/// A GGUF file in two parts: the length of the first in four bytes, then both.
pub fn split_gguf(bytes: &[u8]) {
    let Some((len, parts)) = bytes.split_first_chunk::<4>() else { return };
    let (first, second) = parts.split_at((u32::from_le_bytes(*len) as usize).min(parts.len()));
    let open = |name: &str, part: &[u8]| GgufFile::open(Bytes::memory(name, part.to_vec()));
    let Ok(first) = open("fuzz-00001-of-00002.gguf", first) else { return };
    let find = |path: &Path| Ok(Some(Bytes::memory(path, second.to_vec())));
    let Ok(file) = GgufFile::join(first, find) else { return };
    for name in file.tensors().keys() {
        file.read(name).expect("tensors that passed the check can be read");
    }
    if let Ok(source) = GgufSource::new(file) {
        read_all(&source);
    }
}

/// A file of PyTorch's, also as `pytorch_model.bin` and as the only shard of Meta's.
pub fn torch(bytes: &[u8]) {
    let Ok(file) = TorchFile::open(Bytes::memory(NAME, bytes.to_vec())) else { return };
    for name in file.tensors().keys() {
        // A packed entry can still turn out to be broken.
        let _ = file.read(name);
    }
    if let Ok(source) = MetaSource::new(Path::new(NAME), vec![file]) {
        read_all(&source);
    }
    let Ok(file) = TorchFile::open(Bytes::memory(NAME, bytes.to_vec())) else { return };
    if let Ok(source) = WeightFiles::new(NAME, vec![file.into()]) {
        read_all(&source);
    }
}

/// An index of shards, such as `pytorch_model.bin.index.json`.
pub fn weight_index(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in huggingface::parse_index(Path::new(NAME), text).into_iter().flatten() {
        assert_eq!(Path::new(&name).file_name(), Some(name.as_ref()), "it stays in its folder");
    }
}

/// A `tokenizer.model` of either kind.
pub fn tokenizer_model(bytes: &[u8]) {
    if let Ok(tokenizer) = vocabulary::tokenizer_model(NAME, bytes) {
        use_tokenizer(&tokenizer);
    }
}

/// `config.json`, `params.json`, and the files beside a tokenizer.
pub fn configs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new(NAME);
    let sizes = InferredSizes { vocab_size: 3, d_ff: 4, tied_head: false };
    let _ = refuse_quantised_config(path, text);
    let parsed = [huggingface::parse_config(path, text), parse_params(path, text, sizes)];
    for config in parsed.into_iter().flatten() {
        config.validate().expect("parsed configs are checked");
    }
    if let Ok(json) = TokenizerFiles::parse(path, text) {
        let files = TokenizerFiles {
            config: Some(json.clone()),
            generation_config: Some(json.clone()),
            tokenizer_config: Some(json.clone()),
            special_tokens_map: Some(json.clone()),
            added_tokens: Some(json),
            chat_template: None,
        };
        let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        let mut tokenizer = Tokenizer::new(inner, NAME).with_files(&files);
        let _ = tokenizer.check_fits(2);
        let _ = files.unused(2);
        use_tokenizer(&tokenizer);
    }
}

/// The source of a chat template.
pub fn chat_template(bytes: &[u8]) {
    if let Ok(source) = std::str::from_utf8(bytes) {
        let _ = ChatTemplate::new(source);
    }
}

fn use_tokenizer(tokenizer: &Tokenizer) {
    if let Ok(ids) = tokenizer.encode("ab <s> é") {
        let _ = tokenizer.decode(&ids);
    }
}

fn read_all(source: &dyn TensorSource) {
    for name in source.shapes().keys() {
        let _ = source.read(name);
    }
}
