//! Metadata ─► [`Tokenizer`]: the vocabulary, what splits a text, special tokens, chat template.

use super::{byte_level, sentencepiece};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{TokenKind, Vocabulary};
use checkpoint::gguf::Metadata;

/// A tokenizer and whether it starts texts with BOS where the file does not say.
pub(super) struct Built {
    pub(super) inner: tokenizers::Tokenizer,
    pub(super) add_bos: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer> {
    let vocabulary = vocabulary(metadata)?;
    let Built { mut inner, add_bos, bos, eos } = match metadata.required("tokenizer.ggml.model")? {
        "gpt2" => byte_level::build(metadata, &vocabulary)?,
        "llama" => sentencepiece::build(metadata, &vocabulary)?,
        other => {
            let reason = format!("kind `{other}` is not supported (known: gpt2, llama)");
            return Err(fail(metadata, reason));
        }
    };
    vocabulary.add_to(&mut inner);

    let id = |name: &str| special_id(metadata, &vocabulary, name);
    let bos = id("bos_token_id")?.or(bos);
    let asked = metadata.optional("tokenizer.ggml.add_bos_token")?;
    if asked.unwrap_or(add_bos && bos.is_some()) {
        let bos = bos.ok_or_else(|| fail(metadata, "it adds BOS but names no bos_token_id"))?;
        vocabulary.prepend(bos, &mut inner);
    }

    let mut tokenizer = Tokenizer::new(inner, metadata.path());
    tokenizer.bos = bos;
    for eos in [id("eos_token_id")?.or(eos), id("eot_token_id")?, id("eom_token_id")?] {
        let new = eos.filter(|eos| !tokenizer.eos.contains(eos));
        tokenizer.eos.extend(new);
    }
    tokenizer.chat_template =
        metadata.optional::<&str>("tokenizer.chat_template")?.map(str::to_owned);
    Ok(tokenizer)
}

fn vocabulary(metadata: &Metadata) -> Result<Vocabulary<'_>> {
    let tokens: Vec<&str> = metadata.required("tokenizer.ggml.tokens")?;
    let kinds = match metadata.optional::<Vec<usize>>("tokenizer.ggml.token_type")? {
        Some(kinds) => kinds.into_iter().map(TokenKind::from_id).collect(),
        None => vec![TokenKind::Normal; tokens.len()],
    };
    Vocabulary::new(metadata.path(), tokens, kinds)
}

/// `tokenizer.ggml.{name}`, which must be the id of a token.
pub(super) fn special_id(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
    name: &str,
) -> Result<Option<u32>> {
    let Some(id) = metadata.optional::<usize>(&format!("tokenizer.ggml.{name}"))? else {
        return Ok(None);
    };
    vocabulary.check_id(metadata.path(), name, id).map(Some)
}

/// An error about the tokenizer.
pub(super) fn fail(metadata: &Metadata, reason: impl Into<String>) -> Error {
    crate::vocabulary::fail(metadata.path(), reason)
}

#[cfg(test)]
pub(super) mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::open;
    use super::*;

    pub(in super::super) fn built(fixture: &Fixture) -> Result<Tokenizer> {
        tokenizer(open(fixture).metadata())
    }

    fn with_specials() -> Fixture {
        let tokens = [("a", 1), ("b", 1), ("<s>", 3), ("</s>", 3), ("<eot>", 3), ("ab", 4)];
        let mut fixture = Fixture::vocabulary("gpt2", &tokens);
        fixture.value("tokenizer.ggml.merges", &Value::texts(&[]));
        for (name, id) in [("bos", 2), ("eos", 3), ("eot", 4)] {
            fixture.value(&format!("tokenizer.ggml.{name}_token_id"), &Value::Unsigned(id));
        }
        fixture.value("tokenizer.chat_template", &Value::Text("{{ messages }}".into()));
        fixture
    }

    #[test]
    fn special_tokens_and_template_are_found() {
        let tokenizer = built(&with_specials()).unwrap();
        assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(2), &[3, 4][..]));
        assert_eq!(tokenizer.chat_template.as_deref(), Some("{{ messages }}"));
        assert_eq!(tokenizer.encode("ba<eot>abb").unwrap(), [1, 0, 4, 5, 1]);
        assert_eq!(tokenizer.decode(&[1, 0, 4, 5]).unwrap(), "baab");
        assert_eq!(tokenizer.vocab_size(), 6);
    }

    #[test]
    fn bos_is_added_where_the_file_says_so() {
        let mut fixture = with_specials();
        fixture.value("tokenizer.ggml.add_bos_token", &Value::Bool(true));
        let tokenizer = built(&fixture).unwrap();
        assert_eq!(tokenizer.encode("b").unwrap(), [2, 1]);
        assert_eq!(tokenizer.encode_raw("b").unwrap(), [1]);
    }

    #[test]
    fn inconsistent_vocabularies_are_refused() {
        let cases = [
            ("tokenizer.ggml.model", Value::Text("bert".into()), "kind `bert`"),
            ("tokenizer.ggml.eos_token_id", Value::Unsigned(6), "eos_token_id is 6"),
            ("tokenizer.ggml.token_type", Value::Array(vec![]), "6 tokens but 0 token types"),
            ("tokenizer.ggml.tokens", Value::texts(&["a", "a"]), "tokens 0 and 1 are both \"a\""),
        ];
        for (key, value, expected) in cases {
            let mut fixture = with_specials();
            if key.ends_with("tokens") {
                fixture.replace("tokenizer.ggml.token_type", None);
            }
            fixture.replace(key, Some(value));
            let message = built(&fixture).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let mut fixture = with_specials();
        fixture.replace("tokenizer.ggml.bos_token_id", None);
        fixture.value("tokenizer.ggml.add_bos_token", &Value::Bool(true));
        assert!(built(&fixture).unwrap_err().to_string().contains("names no bos_token_id"));
    }
}
