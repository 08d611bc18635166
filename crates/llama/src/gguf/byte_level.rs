//! Byte-level BPE, as GPT-2 has it: pre-tokenizer ─► bytes as letters ─► merges in order.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;

use std::path::Path;

use super::tokenizer::{Built, fail};
use crate::error::Result;
use crate::vocabulary::{self, Vocabulary};
use checkpoint::gguf::Metadata;

/// How Llama 3 splits a text.
pub(crate) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How Mistral's Tekken splits a text.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How Qwen2 and its successors split a text.
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What splits a text before the merges see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Splitter {
    /// GPT-2's expression.
    Gpt2,
    /// Single digits, then GPT-2's expression.
    DigitsGpt2,
    /// Another expression.
    Expression(&'static str),
    /// Another expression; whole words that are tokens are taken as they are, and BOS comes first.
    WholeWords(&'static str),
}

/// Splitters by `tokenizer.ggml.pre`.
const KNOWN: [(&str, Splitter); 11] = [
    ("default", Splitter::Gpt2),
    ("gpt-2", Splitter::Gpt2),
    ("smollm", Splitter::DigitsGpt2),
    ("starcoder", Splitter::DigitsGpt2),
    ("refact", Splitter::DigitsGpt2),
    ("llama-bpe", Splitter::WholeWords(LLAMA3)),
    ("llama3", Splitter::WholeWords(LLAMA3)),
    ("llama-v3", Splitter::WholeWords(LLAMA3)),
    ("tekken", Splitter::WholeWords(TEKKEN)),
    ("qwen2", Splitter::Expression(QWEN2)),
    ("deepseek-r1-qwen", Splitter::Expression(QWEN2)),
];

pub(super) fn build(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Built> {
    let pre = metadata.optional("tokenizer.ggml.pre")?.unwrap_or("default");
    let Some((_, splitter)) = KNOWN.iter().find(|(name, _)| *name == pre) else {
        let known = KNOWN.map(|(name, _)| name).join(", ");
        let reason = format!("pre-tokenizer `{pre}` is not supported (known: {known})");
        return Err(fail(metadata, reason));
    };
    let inner = assemble(metadata.path(), vocabulary, merges(metadata)?, *splitter)?;
    // llama.cpp's defaults; its later writers put the answer into the file.
    let add_bos = matches!(splitter, Splitter::WholeWords(_));
    Ok(Built { inner, add_bos, bos: None, eos: None })
}

/// The tokenizer of tokens and of pairs that merge, most important first.
pub(crate) fn assemble(
    path: &Path,
    vocabulary: &Vocabulary<'_>,
    merges: Vec<(String, String)>,
    splitter: Splitter,
) -> Result<tokenizers::Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids.clone(), merges)
        .ignore_merges(matches!(splitter, Splitter::WholeWords(_)))
        .build()
        .map_err(|error| vocabulary::fail(path, format!("merges: {error}")))?;
    Ok(around(model, splitter))
}

/// What makes a tokenizer of a model whose tokens are bytes as letters.
pub(crate) fn around(model: BPE, splitter: Splitter) -> tokenizers::Tokenizer {
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(pre_tokenizer(splitter)));
    inner.with_decoder(Some(ByteLevel::default()));
    inner
}

fn pre_tokenizer(splitter: Splitter) -> PreTokenizerWrapper {
    let bytes = |use_regex| ByteLevel::new(false, true, use_regex).into();
    match splitter {
        Splitter::Gpt2 => bytes(true),
        Splitter::DigitsGpt2 => Sequence::new(vec![Digits::new(true).into(), bytes(true)]).into(),
        Splitter::Expression(expression) | Splitter::WholeWords(expression) => {
            let pattern = SplitPattern::Regex(expression.into());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .expect("the expressions above are valid");
            Sequence::new(vec![split.into(), bytes(false)]).into()
        }
    }
}

/// Pairs of `left right`, most important first.
fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>> {
    let lines: Vec<&str> = metadata.required("tokenizer.ggml.merges")?;
    let pair = |(index, line): (usize, &&str)| {
        let (left, right) = line
            .split_once(' ')
            .ok_or_else(|| fail(metadata, format!("merge {index} is {line:?}, not a pair")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    lines.iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::tokenizer::tests::built;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn with(pre: &str, tokens: &[&str], merges: &[&str]) -> Fixture {
        let tokens = tokens.iter().map(|token| (*token, 1)).collect::<Vec<_>>();
        let mut fixture = Fixture::vocabulary("gpt2", &tokens);
        fixture.value("tokenizer.ggml.merges", &Value::texts(merges));
        fixture.value("tokenizer.ggml.pre", &Value::Text(pre.into()));
        fixture
    }

    fn pieces(pre: &str, text: &str) -> Vec<String> {
        let (_, splitter) = KNOWN.iter().find(|(name, _)| *name == pre).unwrap();
        let mut split = PreTokenizedString::from(text);
        pre_tokenizer(*splitter).pre_tokenize(&mut split).unwrap();
        let pieces = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(piece, _, _)| piece.to_owned()).collect()
    }

    #[test]
    fn each_splitter_has_its_way() {
        let text = "It's 1234  x\n\nFooBar";
        for (pre, expected) in [
            ("gpt-2", "It 's Ġ1234 Ġ Ġx Ċ Ċ FooBar"),
            ("smollm", "It 's Ġ 1 2 3 4 Ġ Ġx Ċ Ċ FooBar"),
            ("llama-bpe", "It 's Ġ 123 4 Ġ Ġx ĊĊ FooBar"),
            ("qwen2", "It 's Ġ 1 2 3 4 Ġ Ġx ĊĊ FooBar"),
            ("tekken", "It 's Ġ 1 2 3 4 Ġ Ġx ĊĊ Foo Bar"),
        ] {
            assert_eq!(pieces(pre, text).join(" "), expected, "{pre}");
        }
    }

    #[test]
    fn llama3_takes_whole_words_past_the_merges() {
        assert_eq!(
            built(&with("gpt-2", &["a", "b", "ab"], &[])).unwrap().encode("ab").unwrap(),
            [0, 1]
        );
        let tokenizer = built(&with("llama3", &["a", "b", "ab"], &[])).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), [2]);
    }

    #[test]
    fn unknown_splitters_and_broken_merges_are_named() {
        let message = built(&with("falcon", &["a"], &[])).unwrap_err().to_string();
        assert!(message.contains("`falcon` is not supported (known: default, gpt-2, smollm"));
        let message = built(&with("gpt-2", &["a"], &["aa"])).unwrap_err().to_string();
        assert!(message.contains("merge 0 is \"aa\", not a pair"), "{message}");
        let message = built(&with("gpt-2", &["a"], &["a b"])).unwrap_err().to_string();
        assert!(message.contains("merges: "), "{message}");
    }
}
