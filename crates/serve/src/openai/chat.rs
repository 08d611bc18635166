//! `/v1/chat/completions`: messages ─► prompt ─► an assistant's message

use llama::FinishReason;
use serde::de::MapAccess;
use serde_json::{Value, json};
use text::Message;

use super::content::{ChatMessage, Conversation, MAX_MESSAGES};
use super::error::ApiError;
use super::fields::Fields;
use super::limits::RequestLimits;
use super::logprobs::chat_logprobs;
use super::parameters::Parameters;
use super::reply::{ReplyHeader, finish_reason};
use super::values::{Asked, Count, List};
use crate::engine::{ChoiceAnswer, Token};

/// The most likeliest tokens in place of each.
const MAX_TOP_LOGPROBS: usize = 20;

/// The fields of a chat request.
#[derive(Debug, Default)]
pub(crate) struct ChatRequest {
    pub parameters: Parameters,
    messages: Option<List<ChatMessage, MAX_MESSAGES>>,
    max_completion_tokens: Option<Count>,
    logprobs: Option<bool>,
    top_logprobs: Option<Count>,
    modalities: Option<List<String, 8>>,
    echo: Asked,
}

impl Fields for ChatRequest {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "messages" => self.messages = map.next_value()?,
            "max_completion_tokens" => self.max_completion_tokens = map.next_value()?,
            "logprobs" => self.logprobs = map.next_value()?,
            "top_logprobs" => self.top_logprobs = map.next_value()?,
            "modalities" => self.modalities = map.next_value()?,
            "echo" => self.echo = map.next_value()?,
            _ => return self.parameters.read(key, map),
        }
        Ok(true)
    }
}

impl ChatRequest {
    /// The conversation.
    ///
    /// # Errors
    /// 400 for features that are not built, and for wrong messages.
    pub fn take_conversation(&mut self, limits: &RequestLimits) -> Result<Conversation, ApiError> {
        self.parameters.refuse_unsupported()?;
        let text_only = |modes: &List<String, 8>| modes.0.iter().all(|mode| mode == "text");
        if !self.modalities.as_ref().is_none_or(text_only) {
            let message = "modalities other than `text` are not supported";
            return Err(ApiError::unsupported("modalities", message));
        }
        if self.echo.0 {
            return Err(ApiError::unsupported("echo", "echo is only for /v1/completions"));
        }
        let Some(List(messages)) = self.messages.take() else {
            return Err(ApiError::invalid_param("messages", "messages is missing"));
        };
        Conversation::new(messages, limits)
    }

    /// The most new tokens of a choice; without a limit of the request, all that there is room for.
    ///
    /// # Errors
    /// 400 for 0.
    pub fn max_new_tokens(&self) -> Result<usize, ApiError> {
        let (param, limit) = match self.max_completion_tokens {
            Some(limit) => ("max_completion_tokens", Some(limit)),
            None => ("max_tokens", self.parameters.max_tokens),
        };
        match limit {
            Some(Count(0)) => {
                Err(ApiError::invalid_param(param, format!("{param} is 0, expected at least 1")))
            }
            limit => Ok(limit.map_or(usize::MAX, |limit| limit.0)),
        }
    }

    /// The log-probabilities that the engine is asked for.
    ///
    /// # Errors
    /// 400 for `top_logprobs` without `logprobs`, and for too many.
    pub fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let wrong = |message: String| Err(ApiError::invalid_param("top_logprobs", message));
        match (self.logprobs.unwrap_or(false), self.top_logprobs.map(|top| top.0)) {
            (false, None | Some(0)) => Ok(None),
            (false, Some(_)) => wrong("top_logprobs is only for `\"logprobs\": true`".into()),
            (true, Some(top)) if top > MAX_TOP_LOGPROBS => {
                wrong(format!("top_logprobs is {top}, expected 0 to {MAX_TOP_LOGPROBS}"))
            }
            (true, top) => Ok(Some(top.unwrap_or(0))),
        }
    }
}

/// The messages as text for logs.
pub(crate) fn log_text(messages: &[Message]) -> String {
    let lines = messages.iter().map(|message| format!("{}: {}", message.role, message.content));
    lines.collect::<Vec<_>>().join("\n")
}

/// A whole choice.
pub(crate) fn choice(header: &ReplyHeader, index: usize, answer: &ChoiceAnswer) -> Value {
    let ChoiceAnswer { text, tokens, reason, .. } = answer;
    let logprobs = header.logprobs.then(|| chat_logprobs(&header.tokenizer, tokens));
    json!({
        "index": index,
        "message": { "role": "assistant", "content": text, "refusal": null },
        "logprobs": logprobs,
        "finish_reason": reason.map(finish_reason),
    })
}

fn chunk(index: usize, delta: Value, logprobs: Value, reason: Option<FinishReason>) -> Value {
    let reason = reason.map(finish_reason);
    json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
}

/// The first chunk of a choice: who speaks.
pub(crate) fn first_delta(index: usize) -> Value {
    chunk(index, json!({ "role": "assistant", "content": "" }), Value::Null, None)
}

/// A piece of a choice.
pub(crate) fn delta(header: &ReplyHeader, index: usize, text: &str, tokens: &[Token]) -> Value {
    let logprobs = header.logprobs.then(|| chat_logprobs(&header.tokenizer, tokens));
    chunk(index, json!({ "content": text }), logprobs.unwrap_or_default(), None)
}

/// The last chunk of a choice: why it ends.
pub(crate) fn last_delta(index: usize, reason: FinishReason) -> Value {
    chunk(index, json!({}), Value::Null, Some(reason))
}
