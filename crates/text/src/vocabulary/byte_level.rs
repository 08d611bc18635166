//! Byte-level BPE, as in GPT-2: pre-tokenizer ─► bytes as printable characters ─► ranked merges.

use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;

use super::{Vocabulary, invalid};
use crate::error::Result;

/// Pre-tokenizer pattern of Llama 3.
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Pre-tokenizer pattern of Mistral's Tekken.
pub(crate) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Pre-tokenizer pattern of Qwen2 and its successors.
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is split before the merges are applied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PreTokenizer {
    /// GPT-2's pattern.
    Gpt2,
    /// Single digits, then GPT-2's pattern.
    DigitsGpt2,
    /// Another pattern.
    Pattern(&'static str),
    /// Another pattern; a word that is a token skips the merges, and BOS is added by default.
    WholeWords(&'static str),
}

/// A tokenizer of a vocabulary and its merges in order of rank.
pub(crate) fn from_merges(
    path: &Path,
    vocabulary: &Vocabulary<'_>,
    merges: Vec<(String, String)>,
    pre_tokenizer: PreTokenizer,
) -> Result<tokenizers::Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids.clone(), merges)
        .ignore_merges(matches!(pre_tokenizer, PreTokenizer::WholeWords(_)))
        .build()
        .map_err(|error| invalid(path, format!("merges: {error}")))?;
    Ok(from_bpe(model, pre_tokenizer))
}

/// A tokenizer of a BPE model over byte-level characters.
pub(crate) fn from_bpe(model: BPE, pre_tokenizer: PreTokenizer) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(build(pre_tokenizer)));
    inner.with_decoder(Some(ByteLevel::default()));
    inner
}

pub(crate) fn build(pre_tokenizer: PreTokenizer) -> PreTokenizerWrapper {
    let bytes = |use_regex| ByteLevel::new(false, true, use_regex).into();
    match pre_tokenizer {
        PreTokenizer::Gpt2 => bytes(true),
        PreTokenizer::DigitsGpt2 => {
            Sequence::new(vec![Digits::new(true).into(), bytes(true)]).into()
        }
        PreTokenizer::Pattern(pattern) | PreTokenizer::WholeWords(pattern) => {
            let pattern = SplitPattern::Regex(pattern.into());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .expect("the patterns above are valid");
            Sequence::new(vec![split.into(), bytes(false)]).into()
        }
    }
}
