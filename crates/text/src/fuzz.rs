//! Readers over arbitrary bytes, for the targets in `fuzz/` and the property tests. They must not panic.

use std::path::Path;

use checkpoint::ByteSource;
use checkpoint::fuzz::two_parts;
use checkpoint::gguf::GgufFile;

use crate::chat_template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_files::TokenizerFiles;

/// File name in messages.
const NAME: &str = "fuzz";

/// The tokenizer of a GGUF file.
pub fn gguf(bytes: &[u8]) {
    let file = GgufFile::open(ByteSource::memory(NAME, bytes.to_vec()));
    if let Ok(tokenizer) = file.map(|file| Tokenizer::from_gguf(file.metadata())) {
        if let Ok(tokenizer) = tokenizer {
            encode_and_decode(&tokenizer);
        }
    }
}

/// The tokenizer of a GGUF file in two parts.
pub fn split_gguf(bytes: &[u8]) {
    let tokenizer = two_parts(bytes).map(|file| Tokenizer::from_gguf(file.metadata()));
    if let Some(Ok(tokenizer)) = tokenizer {
        encode_and_decode(&tokenizer);
    }
}

/// A `tokenizer.model` in either format.
pub fn tokenizer_model(bytes: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_model(NAME, bytes) {
        encode_and_decode(&tokenizer);
    }
}

/// The config files of a tokenizer.
pub fn configs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(json) = TokenizerFiles::parse(Path::new(NAME), text) else { return };
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
    let _ = tokenizer.check_vocab_size(2);
    let _ = files.unused_settings(2);
    encode_and_decode(&tokenizer);
}

/// The source of a chat template.
pub fn chat_template(bytes: &[u8]) {
    if let Ok(source) = std::str::from_utf8(bytes) {
        let _ = ChatTemplate::new(source);
    }
}

fn encode_and_decode(tokenizer: &Tokenizer) {
    if let Ok(ids) = tokenizer.encode("ab <s> é") {
        let _ = tokenizer.decode(&ids);
    }
}
