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

/// A completion's form: four lists of the same length. `offset` is the position of the first token in the
/// choice's text, in characters, and becomes that of the next.
pub(crate) fn completion_logprobs(
    tokenizer: &Tokenizer,
    tokens: &[Token],
    offset: &mut usize,
) -> Value {
    let text = |id: u32| String::from_utf8_lossy(&token_bytes(tokenizer, id)).into_owned();
    let (mut texts, mut logprobs, mut top, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let own = text(token.id);
        offsets.push(*offset);
        *offset += own.chars().count();
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
        let mut offset = 3;
        let found = completion_logprobs(&tokenizer, &tokens, &mut offset);
        assert_eq!(offset, 3 + "The hill".len());
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(found[list].as_array().unwrap().len(), tokens.len(), "{list}");
        }
        assert_eq!(
            (&found["token_logprobs"][0], &found["top_logprobs"][0]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(
            (&found["text_offset"][0], &found["token_logprobs"][1]),
            (&json!(3), &json!(-0.5))
        );
        assert!(found["top_logprobs"][1].as_object().unwrap().len() == 2);
    }
}
