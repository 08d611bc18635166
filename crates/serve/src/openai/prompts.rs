//! The prompts of a completion request: a text, a list of tokens, or a list of either

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error as _, SeqAccess, Unexpected, Visitor};

/// One prompt or several, as text or tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// The most prompts that are read: more are refused before they take memory.
const MAX_PROMPTS: usize = 2048;

/// The first item of a list of prompts: it determines the kind of the others.
enum FirstPrompt {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for FirstPrompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FirstVisitor;

        impl<'de> Visitor<'de> for FirstVisitor {
            type Value = FirstPrompt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id, or a list of token ids")
            }

            fn visit_str<E>(self, text: &str) -> Result<FirstPrompt, E> {
                Ok(FirstPrompt::Text(text.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<FirstPrompt, E> {
                let wrong = |_| E::invalid_value(Unexpected::Unsigned(id), &self);
                u32::try_from(id).map(FirstPrompt::Token).map_err(wrong)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<FirstPrompt, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(FirstPrompt::Tokens)
            }
        }

        deserializer.deserialize_any(FirstVisitor)
    }
}

/// The rest of a list of prompts.
fn read_rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    first: T,
    mut seq: A,
    limit: usize,
) -> Result<Vec<T>, A::Error> {
    let mut items = vec![first];
    while let Some(item) = seq.next_element()? {
        if items.len() == limit {
            return Err(A::Error::custom(format!("more than {limit} prompts")));
        }
        items.push(item);
    }
    Ok(items)
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptsVisitor;

        impl<'de> Visitor<'de> for PromptsVisitor {
            type Value = Prompts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings, a list of token ids, or a list of these")
            }

            fn visit_str<E>(self, text: &str) -> Result<Prompts, E> {
                Ok(Prompts::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompts, A::Error> {
                match seq.next_element()? {
                    None => Ok(Prompts::Texts(Vec::new())),
                    Some(FirstPrompt::Text(text)) => {
                        Ok(Prompts::Texts(read_rest(text, seq, MAX_PROMPTS)?))
                    }
                    Some(FirstPrompt::Token(token)) => {
                        Ok(Prompts::Tokens(read_rest(token, seq, usize::MAX)?))
                    }
                    Some(FirstPrompt::Tokens(tokens)) => {
                        Ok(Prompts::TokenLists(read_rest(tokens, seq, MAX_PROMPTS)?))
                    }
                }
            }
        }

        deserializer.deserialize_any(PromptsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Prompts, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_item_determines_the_kind() {
        assert_eq!(read(r#""a""#), Ok(Prompts::Text("a".into())));
        assert_eq!(read(r#"["a", "b"]"#), Ok(Prompts::Texts(vec!["a".into(), "b".into()])));
        assert_eq!(read("[1, 2]"), Ok(Prompts::Tokens(vec![1, 2])));
        assert_eq!(read("[[1], [2, 3]]"), Ok(Prompts::TokenLists(vec![vec![1], vec![2, 3]])));
        assert_eq!(read("[]"), Ok(Prompts::Texts(vec![])));
    }

    #[test]
    fn mixed_and_nested_lists_are_refused() {
        let error = |json: &str| read(json).unwrap_err();
        assert!(error(r#"["a", 1]"#).contains("expected a string"));
        assert!(error("[1, \"a\"]").contains("expected u32"));
        assert!(error("[[[1]]]").contains("expected u32"));
        assert!(error("[-1]").contains("expected a string, a token id"));
        assert!(error("[4294967296]").contains("expected a string, a token id"));
        assert!(error("{}").contains("expected a string, a list of strings"));
    }

    #[test]
    fn too_many_prompts_are_refused_while_they_are_read() {
        let many = format!("[{}]", vec!["[1]"; MAX_PROMPTS + 1].join(","));
        assert!(read(&many).unwrap_err().contains("more than 2048 prompts"));
    }
}
