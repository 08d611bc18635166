//! Log-probabilities in the two forms of OpenAI's API.

use serde_json::{Map, Value, json};
use text::Tokenizer;

use crate::engine::Token;

/// OpenAI's value for the logarithm of 0, which JSON has no number for.
const LOG_OF_ZERO: f32 = -9999.0;

/// A chat's form: an entry for each token with the likeliest tokens in its place.
pub(crate) fn chat_logprobs(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let entry = |id: u32, logprob: f32| {
        let bytes = token_bytes(tokenizer, id);
        json!({
            "token": String::from_utf8_lossy(&bytes),
            "logprob": logprob.max(LOG_OF_ZERO),
            "bytes": bytes,
        })
    };
    let content = tokens.iter().map(|token| {
        let top = token.top.iter().map(|&(id, logprob)| entry(id, logprob)).collect::<Value>();
        let mut own = entry(token.id, token.logprob.unwrap_or(LOG_OF_ZERO));
        own["top_logprobs"] = top;
        own
    });
    json!({ "content": content.collect::<Value>(), "refusal": null })
}

/// A completion's form: four lists of the same length.
pub(crate) fn completion_logprobs(
    tokenizer: &Tokenizer,
    tokens: &[Token],
    offset: &mut TextOffset,
) -> Value {
    let text = |id: u32| String::from_utf8_lossy(&token_bytes(tokenizer, id)).into_owned();
    let (mut texts, mut logprobs, mut top, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let bytes = token_bytes(tokenizer, token.id);
        let own = String::from_utf8_lossy(&bytes).into_owned();
        offsets.push(offset.advance(&bytes));
        // The first token of a prompt has no probability.
        let likeliest = token.logprob.map(|logprob| {
            // The token itself is there even if it is not among the likeliest.
            let others = token.top.iter().map(|&(id, logprob)| (text(id), logprob));
            let all = others.chain([(own.clone(), logprob)]);
            all.map(|(text, logprob)| (text, logprob.max(LOG_OF_ZERO).into()))
                .collect::<Map<String, Value>>()
        });
        logprobs.push(token.logprob.map(|logprob| logprob.max(LOG_OF_ZERO)));
        top.push(likeliest);
        texts.push(own);
    }
    json!({
        "tokens": texts, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets,
    })
}

/// The position of the next token in a choice's text, in characters.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextOffset {
    /// Characters of the text whose first byte was passed.
    begun: usize,
    /// The prompt that the text begins with, until its first token.
    prompt: Option<String>,
}

impl TextOffset {
    /// For a text that begins with its prompt, as the tokens do.
    pub(crate) fn with_prompt(prompt: &str) -> Self {
        Self { begun: 0, prompt: Some(prompt.to_owned()) }
    }

    /// The offset of a token with these bytes; moves past it.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let bytes = match self.prompt.take() {
            Some(prompt) if !prompt.as_bytes().starts_with(bytes) => {
                // Tokenizers add a token or a space to the beginning of a prompt.
                let rest = bytes.strip_prefix(b" ").unwrap_or_default();
                let rest = if prompt.as_bytes().starts_with(rest) { rest } else { &[] };
                if rest.is_empty() {
                    self.prompt = Some(prompt);
                }
                rest
            }
            _ => bytes,
        };
        let continues = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        // A token may begin within a character.
        let within = bytes.first().is_some_and(continues) && self.begun > 0;
        let offset = self.begun - usize::from(within);
        self.begun += bytes.iter().filter(|byte| !continues(byte)).count();
        offset
    }
}

/// The bytes of a token; none for ids without one.
fn token_bytes(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    tokenizer.token_bytes(id).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        built_in::model().unwrap().tokenizer().unwrap()
    }

    fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
        let ids = tokenizer.encode_raw(text).unwrap();
        let token = |id| Token { id, logprob: Some(-0.5), top: vec![(id, -0.5), (1, f32::MIN)] };
        ids.into_iter().map(token).collect()
    }

    #[test]
    fn a_chats_entries_have_the_text_and_the_bytes_of_their_tokens() {
        let tokenizer = tokenizer();
        let tokens = tokens(&tokenizer, "The hill");
        let found = chat_logprobs(&tokenizer, &tokens);
        let entries = found["content"].as_array().unwrap();
        assert_eq!(entries.len(), tokens.len());
        let texts = entries.iter().map(|entry| entry["token"].as_str().unwrap());
        assert_eq!(texts.collect::<String>(), "The hill");
        assert_eq!(entries[0]["top_logprobs"][0]["bytes"], entries[0]["bytes"]);
        assert_eq!(entries[0]["top_logprobs"][1]["logprob"], -9999.0);
    }

    #[test]
    fn a_completions_lists_have_an_entry_for_each_token() {
        let tokenizer = tokenizer();
        let mut tokens = tokens(&tokenizer, "The hill");
        tokens[0].logprob = None;
        let found = completion_logprobs(&tokenizer, &tokens, &mut TextOffset::default());
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(found[list].as_array().unwrap().len(), tokens.len(), "{list}");
        }
        assert_eq!(
            (&found["token_logprobs"][0], &found["top_logprobs"][0]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(
            (&found["text_offset"][0], &found["token_logprobs"][1]),
            (&json!(0), &json!(-0.5))
        );
        assert!(found["top_logprobs"][1].as_object().unwrap().len() == 2);
    }

    fn offsets(prompt: Option<&str>, tokens: &[&[u8]]) -> Vec<usize> {
        let mut offset = prompt.map_or_else(TextOffset::default, TextOffset::with_prompt);
        tokens.iter().map(|token| offset.advance(token)).collect()
    }

    #[test]
    fn offsets_count_characters_even_where_tokens_split_them() {
        let whole = "a\u{e9}\u{1f642}b".as_bytes();
        assert_eq!(
            offsets(None, &[&whole[..2], &whole[2..4], &whole[4..7], &whole[7..]]),
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn what_a_tokenizer_adds_before_a_prompt_has_no_length() {
        assert_eq!(offsets(Some("The hill"), &[b"<s>", b" The", b" hill", b" is"]), [0, 0, 3, 8]);
        assert_eq!(offsets(Some("<s>The"), &[b"<s>", b"The", b"."]), [0, 3, 6]);
        assert_eq!(offsets(Some("The"), &[b"<s>", b" ", b"The", b"."]), [0, 0, 0, 3]);
    }
}
