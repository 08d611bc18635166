//! `vocab.json` and `merges.txt`, byte-level BPE as GPT-2 stores it ─► [`Tokenizer`].

use std::path::Path;

use checkpoint::files;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::byte_level::{self, PreTokenizer, QWEN2};
use crate::vocabulary::invalid;

/// Names of the two files.
pub(crate) const FILES: [&str; 2] = ["vocab.json", "merges.txt"];

/// Reads the files of a folder. `class` is transformers' tokenizer class, which implies the pre-tokenizer:
/// no file contains it.
pub(super) fn tokenizer(folder: &Path, class: &str) -> Result<Tokenizer> {
    let [vocab, merges] = FILES.map(|name| folder.join(name));
    let pre_tokenizer = match class {
        "GPT2Tokenizer" => PreTokenizer::Gpt2,
        "Qwen2Tokenizer" => PreTokenizer::Pattern(QWEN2),
        _ => {
            let reason = "without a tokenizer.json beside it, it is read for GPT-2, Qwen2 and Qwen3, or \
                          where tokenizer_config.json says GPT2Tokenizer or Qwen2Tokenizer";
            return Err(invalid(&vocab, reason));
        }
    };
    let text = files::read_text(&vocab)?;
    let ids: Vocab =
        serde_json::from_str(&text).map_err(|error| checkpoint::Error::json(&vocab, &error))?;
    let text = files::read_text(&merges)?;
    let model = BPE::builder()
        .vocab_and_merges(ids, parse_merges(&merges, &text)?)
        .build()
        .map_err(|error| invalid(&merges, error.to_string()))?;
    let mut inner = byte_level::from_bpe(model, pre_tokenizer);
    if class == "Qwen2Tokenizer" {
        inner.with_normalizer(Some(NFC));
    }
    Ok(Tokenizer::new(inner, vocab))
}

/// Merges in order of rank.
fn parse_merges(path: &Path, text: &str) -> Result<Vec<(String, String)>> {
    let lines = text.lines().enumerate();
    let lines = lines
        .filter(|(index, line)| !line.is_empty() && (*index > 0 || !line.starts_with("#version")));
    let pair = |(index, line): (usize, &str)| {
        let (left, right) = line.split_once(' ').ok_or_else(|| {
            invalid(path, format!("line {} is {line:?}, not a pair of tokens", index + 1))
        })?;
        Ok((left.to_owned(), right.to_owned()))
    };
    lines.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(merges: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let vocab = r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "1": 5, "<|endoftext|>": 9}"#;
        std::fs::write(folder.path().join("vocab.json"), vocab).unwrap();
        std::fs::write(folder.path().join("merges.txt"), merges).unwrap();
        folder
    }

    #[test]
    fn tokens_merge_in_the_order_of_the_file() {
        let folder = folder("#version: 0.2\na b\nĠ ab\n");
        for class in ["GPT2Tokenizer", "Qwen2Tokenizer"] {
            let tokenizer = tokenizer(folder.path(), class).unwrap();
            assert_eq!(tokenizer.encode("ab ab1 b").unwrap(), [2, 4, 5, 3, 1], "{class}");
            assert_eq!(tokenizer.decode(&[4, 0]).unwrap(), " aba");
        }
    }

    #[test]
    fn other_files_are_errors() {
        let message = |merges: &str, class: &str| {
            tokenizer(folder(merges).path(), class).unwrap_err().to_string()
        };
        assert!(message("a b\nab\n", "GPT2Tokenizer").contains("line 2 is \"ab\", not a pair"));
        assert!(message("a x\n", "GPT2Tokenizer").contains("merges.txt: tokenizer: "));
        assert!(message("", "LlamaTokenizer").contains("is read for GPT-2, Qwen2 and Qwen3"));
    }
}
