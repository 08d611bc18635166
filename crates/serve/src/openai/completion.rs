//! `/v1/completions`: text or tokens ─► their continuation

use llama::FinishReason;
use serde::de::MapAccess;
use serde_json::{Value, json};
use text::Tokenizer;

use super::content::check_prompt_bytes;
use super::error::ApiError;
use super::fields::Fields;
use super::limits::RequestLimits;
use super::logprobs::{TextOffset, completion_logprobs};
use super::parameters::Parameters;
use super::prompts::Prompts;
use super::reply::{ReplyHeader, finish_reason};
use super::values::Count;
use crate::engine::{ChoiceAnswer, Token};

/// The most likeliest tokens in place of each.
const MAX_LOGPROBS: usize = 5;
/// New tokens, where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// The fields of a completion request.
#[derive(Debug, Default)]
pub(crate) struct CompletionRequest {
    pub parameters: Parameters,
    prompt: Option<Prompts>,
    echo: Option<bool>,
    logprobs: Option<Count>,
    best_of: Option<Count>,
}

impl Fields for CompletionRequest {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "prompt" => self.prompt = map.next_value()?,
            "echo" => self.echo = map.next_value()?,
            "logprobs" => self.logprobs = map.next_value()?,
            "best_of" => self.best_of = map.next_value()?,
            _ => return self.parameters.read(key, map),
        }
        Ok(true)
    }
}

/// A prompt, and its text if the answers begin with it.
pub(crate) struct EncodedPrompt {
    pub tokens: Vec<u32>,
    pub echo: Option<String>,
}

impl CompletionRequest {
    /// The prompts as tokens.
    ///
    /// # Errors
    /// 400 for features that are not built, and for no, empty, too long or too many prompts.
    pub fn encode(
        &mut self,
        tokenizer: &Tokenizer,
        limits: &RequestLimits,
    ) -> Result<Vec<EncodedPrompt>, ApiError> {
        let wrong = |message: String| ApiError::invalid_param("prompt", message);
        self.parameters.refuse_unsupported()?;
        let best_of = self.best_of.or(self.parameters.n).map_or(1, |best_of| best_of.0);
        if best_of != self.parameters.n.map_or(1, |n| n.0) {
            let message = "best_of other than n is not supported: every choice is returned";
            return Err(ApiError::unsupported("best_of", message));
        }
        if self.echo.unwrap_or(false) && self.parameters.stream.unwrap_or(false) {
            return Err(ApiError::unsupported("echo", "echo is not supported in a stream"));
        }
        let (texts, lists) = match self.prompt.take() {
            None => return Err(wrong("prompt is missing".into())),
            Some(Prompts::Text(text)) => (vec![text], vec![]),
            Some(Prompts::Texts(texts)) => (texts, vec![]),
            Some(Prompts::Tokens(tokens)) => (vec![], vec![tokens]),
            Some(Prompts::TokenLists(lists)) => (vec![], lists),
        };
        let count = texts.len() + lists.len();
        if !(1..=limits.prompts).contains(&count) {
            let limit = limits.prompts;
            return Err(wrong(format!("{count} prompts, expected 1 to {limit}")));
        }
        check_prompt_bytes("prompt", texts.iter().map(String::len).sum(), limits)?;
        let echo = self.echo.unwrap_or(false);
        let failed = |error: text::Error| wrong(error.to_string());
        let texts = texts.into_iter().map(|text| {
            let tokens = tokenizer.encode(&text).map_err(failed)?;
            Ok::<_, ApiError>(EncodedPrompt { tokens, echo: echo.then_some(text) })
        });
        let lists = lists.into_iter().map(|tokens| {
            let text = echo.then(|| tokenizer.decode(&tokens)).transpose().map_err(failed)?;
            Ok(EncodedPrompt { tokens, echo: text })
        });
        let prompts = texts.chain(lists).collect::<Result<Vec<_>, ApiError>>()?;
        if prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
            return Err(wrong("an empty prompt, expected at least one token".into()));
        }
        Ok(prompts)
    }

    /// Whether choices begin with the prompt.
    pub fn echo(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// The most new tokens of a choice.
    ///
    /// # Errors
    /// 400 for 0, except to look at a prompt.
    pub fn max_new_tokens(&self) -> Result<usize, ApiError> {
        match self.parameters.max_tokens.map_or(DEFAULT_MAX_TOKENS, |limit| limit.0) {
            0 if !self.echo() => {
                let message = "max_tokens is 0, expected at least 1, or 0 with echo";
                Err(ApiError::invalid_param("max_tokens", message))
            }
            limit => Ok(limit),
        }
    }

    /// The log-probabilities that the engine is asked for.
    ///
    /// # Errors
    /// 400 for too many.
    pub fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        match self.logprobs.map(|top| top.0) {
            Some(top) if top > MAX_LOGPROBS => {
                let message = format!("logprobs is {top}, expected 0 to {MAX_LOGPROBS}");
                Err(ApiError::invalid_param("logprobs", message))
            }
            top => Ok(top),
        }
    }
}

/// A whole choice; `prompt` is the text and the tokens that it begins with.
pub(crate) fn choice(
    header: &ReplyHeader,
    index: usize,
    answer: &ChoiceAnswer,
    prompt: Option<(&str, &[Token])>,
) -> Value {
    let (prompt_text, prompt_tokens) = prompt.unwrap_or_default();
    let logprobs = header.logprobs.then(|| {
        let tokens = [prompt_tokens, &answer.tokens].concat();
        let mut offset =
            prompt.map_or_else(TextOffset::default, |(text, _)| TextOffset::with_prompt(text));
        completion_logprobs(&header.tokenizer, &tokens, &mut offset)
    });
    json!({
        "index": index,
        "text": format!("{prompt_text}{}", answer.text),
        "logprobs": logprobs,
        "finish_reason": answer.reason.map(finish_reason),
    })
}

/// A piece of a choice.
pub(crate) fn delta(
    header: &ReplyHeader,
    index: usize,
    text: &str,
    tokens: &[Token],
    offset: &mut TextOffset,
) -> Value {
    let logprobs = header.logprobs.then(|| completion_logprobs(&header.tokenizer, tokens, offset));
    json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": null })
}

/// The last chunk of a choice: why it ends.
pub(crate) fn last_delta(index: usize, reason: FinishReason) -> Value {
    json!({ "index": index, "text": "", "logprobs": null, "finish_reason": finish_reason(reason) })
}
