//! GGUF metadata ─► byte-level BPE.

use checkpoint::gguf::Metadata;

use super::parts::Parts;
use crate::error::Result;
use crate::vocabulary::byte_level::{LLAMA3, PreTokenizer, QWEN2, TEKKEN, from_merges};
use crate::vocabulary::{Vocabulary, invalid};

/// Pre-tokenizers by `tokenizer.ggml.pre`.
const KNOWN: [(&str, PreTokenizer); 11] = [
    ("default", PreTokenizer::Gpt2),
    ("gpt-2", PreTokenizer::Gpt2),
    ("smollm", PreTokenizer::DigitsGpt2),
    ("starcoder", PreTokenizer::DigitsGpt2),
    ("refact", PreTokenizer::DigitsGpt2),
    ("llama-bpe", PreTokenizer::WholeWords(LLAMA3)),
    ("llama3", PreTokenizer::WholeWords(LLAMA3)),
    ("llama-v3", PreTokenizer::WholeWords(LLAMA3)),
    ("tekken", PreTokenizer::WholeWords(TEKKEN)),
    ("qwen2", PreTokenizer::Pattern(QWEN2)),
    ("deepseek-r1-qwen", PreTokenizer::Pattern(QWEN2)),
];

pub(super) fn build(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let pre = metadata.optional("tokenizer.ggml.pre")?.unwrap_or("default");
    let Some((_, pre_tokenizer)) = KNOWN.iter().find(|(name, _)| *name == pre) else {
        let known = KNOWN.map(|(name, _)| name).join(", ");
        let reason = format!("pre-tokenizer `{pre}` is not supported (known: {known})");
        return Err(invalid(metadata.path(), reason));
    };
    let inner = from_merges(metadata.path(), vocabulary, merges(metadata)?, *pre_tokenizer)?;
    // llama.cpp's default; newer files have `add_bos_token`.
    let add_bos = matches!(pre_tokenizer, PreTokenizer::WholeWords(_));
    Ok(Parts { inner, add_bos, bos: None, eos: None })
}

/// Merges in order of rank.
fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>> {
    let lines: Vec<&str> = metadata.required("tokenizer.ggml.merges")?;
    let pair = |(index, line): (usize, &&str)| {
        let (left, right) = line.split_once(' ').ok_or_else(|| {
            invalid(metadata.path(), format!("merge {index} is {line:?}, not a pair"))
        })?;
        Ok((left.to_owned(), right.to_owned()))
    };
    lines.iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::super::tests::load;
    use super::*;
    use crate::vocabulary::byte_level;

    fn with(pre: &str, tokens: &[&str], merges: &[&str]) -> Fixture {
        let tokens = tokens.iter().map(|token| (*token, 1)).collect::<Vec<_>>();
        let mut fixture = Fixture::vocabulary("gpt2", &tokens);
        fixture.value("tokenizer.ggml.merges", &Value::texts(merges));
        fixture.value("tokenizer.ggml.pre", &Value::Text(pre.into()));
        fixture
    }

    fn pieces(pre: &str, text: &str) -> Vec<String> {
        let (_, pre_tokenizer) = KNOWN.iter().find(|(name, _)| *name == pre).unwrap();
        let mut split = PreTokenizedString::from(text);
        byte_level::build(*pre_tokenizer).pre_tokenize(&mut split).unwrap();
        let pieces = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(piece, _, _)| piece.to_owned()).collect()
    }

    #[test]
    fn each_pre_tokenizer_has_its_pattern() {
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
    fn whole_words_of_llama3_skip_the_merges() {
        assert_eq!(
            load(&with("gpt-2", &["a", "b", "ab"], &[])).unwrap().encode("ab").unwrap(),
            [0, 1]
        );
        let tokenizer = load(&with("llama3", &["a", "b", "ab"], &[])).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), [2]);
    }

    #[test]
    fn unknown_pre_tokenizers_and_invalid_merges_are_named() {
        let message = load(&with("falcon", &["a"], &[])).unwrap_err().to_string();
        assert!(message.contains("`falcon` is not supported (known: default, gpt-2, smollm"));
        let message = load(&with("gpt-2", &["a"], &["aa"])).unwrap_err().to_string();
        assert!(message.contains("merge 0 is \"aa\", not a pair"), "{message}");
        let message = load(&with("gpt-2", &["a"], &["a b"])).unwrap_err().to_string();
        assert!(message.contains("merges: "), "{message}");
    }
}
