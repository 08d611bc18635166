//! Token ids of GGUF files and of `tokenizer.model` against gguf-py, SentencePiece and tokenizers.
//!
//! `tests/golden/README.md` has the commands that make the files.

use std::fs;

use checkpoint::ByteSource;
use checkpoint::gguf::GgufFile;
use testing::golden_folder;

use crate::Tokenizer;

fn open(name: &str) -> GgufFile {
    let path = golden_folder().join("gguf").join(name);
    let bytes = ByteSource::open(&path).unwrap_or_else(|error| {
        panic!("{error}\nmake it with: python3 tests/golden/make.py (see its README)")
    });
    GgufFile::open(bytes).unwrap()
}

/// A row of a golden JSON list: text, ids, decoded text.
fn token_rows(name: &str) -> Vec<(String, Vec<u32>, String)> {
    let text = fs::read_to_string(golden_folder().join("gguf").join(name)).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let field = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| {
            let ids = serde_json::from_value(row["ids"].clone()).unwrap();
            (field(row, "text"), ids, field(row, "decoded"))
        })
        .collect()
}

fn check_tokens(tokenizer: &Tokenizer, rows: &[(String, Vec<u32>, String)]) {
    assert!(!rows.is_empty());
    for (text, ids, _) in rows {
        assert_eq!(tokenizer.encode_raw(text).unwrap(), *ids, "{text:?}");
    }
}

#[test]
fn qwen_tokens_equal_tokenizers() {
    let tokenizer = Tokenizer::from_gguf(open("tiny-qwen3.gguf").metadata()).unwrap();
    let rows = token_rows("qwen2_tokens.json");
    check_tokens(&tokenizer, &rows);
    assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (None, &[2][..]));
}

#[test]
fn byte_level_tokens_equal_tokenizers() {
    let tokenizer = Tokenizer::from_gguf(open("tiny-llama.gguf").metadata()).unwrap();
    let rows = token_rows("bpe_tokens.json");
    check_tokens(&tokenizer, &rows);
    for (text, ids, _) in &rows {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "no BOS: {text:?}");
    }
    assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
    assert_eq!(tokenizer.vocab_size(), 128);
    assert!(tokenizer.chat_template.unwrap().contains("<|im_start|>"));
}

#[test]
fn sentencepiece_tokens_equal_sentencepiece() {
    let tokenizer = Tokenizer::from_gguf(open("tiny-llama-spm.gguf").metadata()).unwrap();
    let rows = token_rows("spm_tokens.json");
    check_tokens(&tokenizer, &rows);
    for (text, ids, decoded) in &rows {
        assert_eq!(tokenizer.decode(ids).unwrap(), *decoded, "{text:?}");
        let with_bos = [&[1], &ids[..]].concat();
        assert_eq!(tokenizer.encode(text).unwrap(), with_bos, "{text:?}");
    }
    assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
    assert_eq!(tokenizer.vocab_size(), 320);
}

/// Compares a tokenizer with rows of text and ids.
fn check_encode_and_decode(tokenizer: &Tokenizer, name: &str) {
    let text = fs::read_to_string(golden_folder().join(name)).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() > 10);
    for row in rows {
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        let text = row["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_raw(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn tokenizer_model_equals_sentencepiece() {
    let tokenizer = Tokenizer::from_meta_folder(&golden_folder().join("meta")).unwrap();
    check_encode_and_decode(&tokenizer, "gguf/spm_tokens.json");
    assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
    assert_eq!(tokenizer.encode("the").unwrap()[0], 1);
}

#[test]
fn tokenizer_model_equals_tiktoken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    fs::copy(golden_folder().join("meta/llama3_tokenizer.model"), path).unwrap();
    let tokenizer = Tokenizer::from_meta_folder(folder.path()).unwrap();
    check_encode_and_decode(&tokenizer, "meta/llama3_tokens.json");
    assert_eq!(tokenizer.vocab_size(), 456 + 256);
    assert_eq!(tokenizer.encode("the").unwrap(), [456, 116, 258]);
}

#[test]
fn the_tokenizer_may_be_in_the_parent_folder() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("tokenizer.model");
    fs::copy(golden_folder().join("meta/tokenizer.model"), &path).unwrap();
    let folder = parent.path().join("7B");
    fs::create_dir(&folder).unwrap();
    assert_eq!(Tokenizer::from_meta_folder(&folder).unwrap().vocab_size(), 320);
    fs::remove_file(path).unwrap();
    let message = Tokenizer::from_meta_folder(&folder).unwrap_err().to_string();
    assert!(message.contains("tokenizer.model is neither in this folder nor in its parent"));
}
