//! GGUF metadata ─► [`Tokenizer`]: vocabulary, pre-tokenizer, special tokens, chat template.

mod byte_level;
mod parts;
mod sentencepiece;

use checkpoint::gguf::Metadata;

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{TokenType, Vocabulary, invalid};
use parts::{Parts, special_id};

impl Tokenizer {
    /// The tokenizer of a GGUF file, with its special tokens and chat template.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for an unsupported or inconsistent one;
    /// [`checkpoint::Error::Format`] for missing metadata.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let path = metadata.path();
        let vocabulary = vocabulary(metadata)?;
        let model = metadata.required("tokenizer.ggml.model")?;
        let Parts { mut inner, add_bos, bos, eos } = match model {
            "gpt2" => byte_level::build(metadata, &vocabulary)?,
            "llama" => sentencepiece::build(metadata, &vocabulary)?,
            other => {
                let reason = format!("kind `{other}` is not supported (known: gpt2, llama)");
                return Err(invalid(path, reason));
            }
        };
        vocabulary.register_added_tokens(&mut inner);

        let id = |name: &str| special_id(metadata, &vocabulary, name);
        let bos = id("bos_token_id")?.or(bos);
        let setting = metadata.optional("tokenizer.ggml.add_bos_token")?;
        if setting.unwrap_or(add_bos && bos.is_some()) {
            let bos = bos.ok_or_else(|| invalid(path, "it adds BOS but names no bos_token_id"))?;
            vocabulary.add_bos(bos, &mut inner);
        }

        let mut tokenizer = Self::new(inner, path);
        tokenizer.bos = bos;
        for eos in [id("eos_token_id")?.or(eos), id("eot_token_id")?, id("eom_token_id")?] {
            let new = eos.filter(|eos| !tokenizer.eos.contains(eos));
            tokenizer.eos.extend(new);
        }
        tokenizer.chat_template =
            metadata.optional::<&str>("tokenizer.chat_template")?.map(str::to_owned);
        Ok(tokenizer)
    }
}

fn vocabulary(metadata: &Metadata) -> Result<Vocabulary<'_>> {
    let tokens: Vec<&str> = metadata.required("tokenizer.ggml.tokens")?;
    let types = match metadata.optional::<Vec<usize>>("tokenizer.ggml.token_type")? {
        Some(types) => types.into_iter().map(TokenType::from_id).collect(),
        None => vec![TokenType::Normal; tokens.len()],
    };
    Vocabulary::new(metadata.path(), tokens, types)
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::*;
    use checkpoint::ByteSource;
    use checkpoint::gguf::GgufFile;

    pub(super) fn load(fixture: &Fixture) -> Result<Tokenizer> {
        let bytes = ByteSource::memory("test.gguf", fixture.bytes());
        Tokenizer::from_gguf(GgufFile::open(bytes).unwrap().metadata())
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
        let tokenizer = load(&with_specials()).unwrap();
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
        let tokenizer = load(&fixture).unwrap();
        assert_eq!(tokenizer.encode("b").unwrap(), [2, 1]);
        assert_eq!(tokenizer.encode_raw("b").unwrap(), [1]);
    }

    #[test]
    fn inconsistent_vocabularies_are_errors() {
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
            let message = load(&fixture).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let mut fixture = with_specials();
        fixture.replace("tokenizer.ggml.bos_token_id", None);
        fixture.value("tokenizer.ggml.add_bos_token", &Value::Bool(true));
        assert!(load(&fixture).unwrap_err().to_string().contains("names no bos_token_id"));
    }
}
