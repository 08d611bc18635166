//! The events of a request's prompts ─► one response, or the chunks of a stream

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{SelectAll, Stream, StreamExt, select_all};
use llama::FinishReason;
use serde_json::{Value, json};
use text::Tokenizer;

use super::error::ApiError;
use super::logprobs::TextOffset;
use super::{chat, completion};
use crate::engine::{Answer, Event, Generation};

/// What a response is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completion,
}

/// What all chunks of a response have in common.
#[derive(Debug)]
pub(crate) struct ReplyHeader {
    pub endpoint: Endpoint,
    /// The model as the request calls it.
    pub model: String,
    pub system_fingerprint: Arc<str>,
    pub tokenizer: Arc<Tokenizer>,
    /// Whether choices have log-probabilities.
    pub logprobs: bool,
    pub stream: bool,
    /// Whether a stream ends with the numbers of tokens.
    pub include_usage: bool,
}

/// A prompt and its running generation.
#[derive(Debug)]
pub(crate) struct ReplyPrompt {
    pub generation: Generation,
    pub tokens: usize,
    /// The prompt's text, if its choices begin with it.
    pub echo: Option<String>,
}

/// Events of a prompt, with its index.
type IndexedEvents = Pin<Box<dyn Stream<Item = (usize, Event)> + Send>>;

/// A response that is being generated. Dropping it cancels the requests of the engine.
pub struct Reply {
    header: ReplyHeader,
    id: String,
    created: u64,
    events: SelectAll<IndexedEvents>,
    /// Choices of each prompt.
    choices: usize,
    echoes: Vec<Option<String>>,
    usage: Usage,
    /// Choices that have not ended.
    running: usize,
    /// Chunks that are ready.
    chunks: VecDeque<Value>,
    /// What a stream has told of each choice.
    streamed: Vec<StreamedChoice>,
    ended: bool,
}

/// What a stream has told of a choice.
#[derive(Debug, Clone, Default)]
struct StreamedChoice {
    /// Whether its first chunk, which has no text, was sent.
    begun: bool,
    /// Position of its next token in its text, in characters.
    offset: TextOffset,
}

/// Numbers of tokens of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    prompt: usize,
    cached: usize,
    completion: usize,
}

impl Usage {
    fn to_json(self) -> Value {
        let Self { prompt, cached, completion } = self;
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": { "cached_tokens": cached },
        })
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Reply {
    /// The reply of running generations with `choices` answers each.
    pub(crate) fn new(header: ReplyHeader, prompts: Vec<ReplyPrompt>, choices: usize) -> Self {
        let running = prompts.len() * choices;
        let prefix = match header.endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completion => "cmpl",
        };
        let usage =
            Usage { prompt: prompts.iter().map(|prompt| prompt.tokens).sum(), ..Usage::default() };
        let mut echoes = Vec::new();
        let mut streams = Vec::new();
        for (i, ReplyPrompt { generation, echo, .. }) in prompts.into_iter().enumerate() {
            echoes.push(echo);
            streams.push(generation.map(move |event| (i, event)).boxed());
        }
        Self {
            header,
            id: format!("{prefix}-{:032x}", rand::random::<u128>()),
            created: unix_seconds(),
            events: select_all(streams),
            choices,
            echoes,
            usage,
            running,
            chunks: VecDeque::new(),
            streamed: vec![StreamedChoice::default(); running],
            ended: false,
        }
    }

    /// Whether the request asks for a stream.
    pub fn is_stream(&self) -> bool {
        self.header.stream
    }

    /// Identifies the response.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the end of all answers and puts them together.
    ///
    /// # Errors
    /// The error of a request that fails; the others are cancelled.
    pub async fn answer(mut self) -> Result<Value, ApiError> {
        let mut answers = vec![Answer::new(self.choices); self.echoes.len()];
        while let Some((prompt, event)) = self.events.next().await {
            self.count(&event);
            answers[prompt].push(event)?;
        }
        if self.running > 0 {
            return Err(crate::RequestError::Aborted.into());
        }
        self.log_end();
        let mut choices = Vec::new();
        for (answer, echo) in answers.iter().zip(&self.echoes) {
            for choice in &answer.choices {
                let index = choices.len();
                choices.push(match self.header.endpoint {
                    Endpoint::Chat => chat::choice(&self.header, index, choice),
                    Endpoint::Completion => {
                        let prompt = echo.as_ref().map(|text| (text.as_str(), &answer.prompt[..]));
                        completion::choice(&self.header, index, choice, prompt)
                    }
                });
            }
        }
        let mut response = self.envelope(choices.into());
        response["usage"] = self.usage.to_json();
        Ok(response)
    }

    /// Waits until the first chunk or an error is there: errors until then can be a response of their own.
    ///
    /// # Errors
    /// That of a request that fails before any of its answers begins.
    pub async fn begin(&mut self) -> Result<(), ApiError> {
        if self.chunks.is_empty()
            && let Some(chunk) = self.next_chunk().await
        {
            self.chunks.push_front(chunk?);
        }
        Ok(())
    }

    /// The next chunk of a stream; `None` after the last. An error is the last.
    pub async fn next_chunk(&mut self) -> Option<Result<Value, ApiError>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Some(Ok(chunk));
            }
            if self.ended {
                return None;
            }
            match self.events.next().await {
                Some((_prompt, Event::Failed(error))) => {
                    self.end();
                    return Some(Err(error.into()));
                }
                Some((prompt, event)) => self.push_chunks(prompt, event),
                None => {
                    self.end();
                    if self.running > 0 {
                        return Some(Err(crate::RequestError::Aborted.into()));
                    }
                    self.log_end();
                    if self.header.include_usage {
                        let mut chunk = self.envelope(json!([]));
                        chunk["usage"] = self.usage.to_json();
                        self.chunks.push_back(chunk);
                    }
                }
            }
        }
    }

    fn log_end(&self) {
        let Usage { prompt, cached, completion } = self.usage;
        let (reply, model) = (&self.id, &self.header.model);
        tracing::info!(reply, model, prompt, cached, completion, "answered");
    }

    /// Cancels what still runs.
    fn end(&mut self) {
        self.ended = true;
        self.events.clear();
    }

    /// Adds an event to the numbers of tokens.
    fn count(&mut self, event: &Event) {
        match event {
            Event::Started { cached_tokens } => self.usage.cached += cached_tokens,
            Event::Finished { tokens, .. } => {
                self.usage.completion += tokens;
                self.running -= 1;
            }
            _ => {}
        }
    }

    /// Adds the chunks of an event.
    fn push_chunks(&mut self, prompt: usize, event: Event) {
        self.count(&event);
        match event {
            Event::Text { choice, text, tokens } => {
                let tokens = if self.header.logprobs { &tokens[..] } else { &[] };
                if text.is_empty() && tokens.is_empty() {
                    return;
                }
                let index = self.begin_choice(prompt, choice);
                let offset = &mut self.streamed[index].offset;
                let choice = match self.header.endpoint {
                    Endpoint::Chat => chat::delta(&self.header, index, &text, tokens),
                    Endpoint::Completion => {
                        completion::delta(&self.header, index, &text, tokens, offset)
                    }
                };
                self.push_choice(choice);
            }
            Event::Finished { choice, reason, .. } => {
                let index = self.begin_choice(prompt, choice);
                self.push_choice(match self.header.endpoint {
                    Endpoint::Chat => chat::last_delta(index, reason),
                    Endpoint::Completion => completion::last_delta(index, reason),
                });
            }
            _ => {}
        }
    }

    /// The index of a prompt's choice. Adds the first chunk of a chat's choice, once there is more to tell: a
    /// request that fails before that has sent nothing.
    fn begin_choice(&mut self, prompt: usize, choice: usize) -> usize {
        let index = prompt * self.choices + choice;
        let begun = std::mem::replace(&mut self.streamed[index].begun, true);
        if !begun && self.header.endpoint == Endpoint::Chat {
            self.push_choice(chat::first_delta(index));
        }
        index
    }

    fn push_choice(&mut self, choice: Value) {
        let mut chunk = self.envelope(json!([choice]));
        if self.header.include_usage {
            // Clients of such streams expect the key in every chunk.
            chunk["usage"] = Value::Null;
        }
        self.chunks.push_back(chunk);
    }

    /// What surrounds choices.
    fn envelope(&self, choices: Value) -> Value {
        let ReplyHeader { endpoint, stream, model, system_fingerprint, .. } = &self.header;
        let object = match (endpoint, stream) {
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Chat, true) => "chat.completion.chunk",
            // The same for chunks.
            (Endpoint::Completion, _) => "text_completion",
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": model,
            "system_fingerprint": system_fingerprint.as_ref(),
            "choices": choices,
        })
    }
}

/// OpenAI's word for the end of an answer.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
