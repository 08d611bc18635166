//! GenerationRequest ─► Event, Event, ... ─► Generation ─► Answer

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use image::RgbImage;
use llama::sampling::{Choice, Logprobs};
use llama::{FinishReason, SamplingConfig};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;

use super::commands::Wake;
use crate::error::RequestError;

/// A prompt and how to continue it.
///
/// What comes back does not depend on other requests: the same request with the same seed has the same
/// answer, alone or in a full batch.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// Token ids of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// The adapter.
    pub adapter: AdapterChoice,
    /// An image, for an adapter with an image condition.
    pub image: Option<Arc<ImageInput>>,
    /// Maximum number of new tokens, limited by what the prompt leaves of the context and the cache.
    pub max_new_tokens: usize,
    /// Sampling settings.
    pub sampling: SamplingConfig,
    /// Tokens that end an answer. They are not part of its text.
    pub stop_tokens: Vec<u32>,
    /// Texts that end an answer. They are not part of its text; empty ones are ignored.
    pub stop_strings: Vec<String>,
    /// Log-probabilities: `Some(n)` for those of the tokens and of the `n` likeliest instead of each.
    pub logprobs: Option<usize>,
    /// Whether the prompt's tokens have log-probabilities too, with the `n` of `logprobs`.
    pub prompt_logprobs: bool,
    /// Number of answers. Answer `i` draws from stream `i` of the seed.
    pub choices: usize,
}

impl GenerationRequest {
    /// A greedy continuation by the base model, one answer of at most 256 tokens.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            adapter: AdapterChoice::Base,
            image: None,
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            logprobs: None,
            prompt_logprobs: false,
            choices: 1,
        }
    }
}

/// The adapter of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterChoice {
    /// None: the base model.
    Base,
    /// An adapter by name.
    Named(String),
    /// A weighted mix of adapters, 1 to 8 names with finite weights.
    Mix(Vec<(String, f64)>),
}

/// A decoded image, and what identifies it.
#[derive(Clone)]
pub struct ImageInput {
    image: RgbImage,
    digest: [u8; 32],
}

impl ImageInput {
    /// Wraps a decoded image.
    pub fn new(image: RgbImage) -> Self {
        let mut hash = Sha256::new();
        hash.update(image.width().to_le_bytes());
        hash.update(image.height().to_le_bytes());
        hash.update(image.as_raw());
        Self { digest: hash.finalize().into(), image }
    }

    /// The pixels.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// SHA-256 of the size and the pixels.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl std::fmt::Debug for ImageInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageInput({} x {})", self.image.width(), self.image.height())
    }
}

/// A token with its log-probabilities, if they were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Id of the token.
    pub id: u32,
    /// Natural logarithm of its probability under the model, before temperature, penalties and filters.
    pub logprob: Option<f32>,
    /// The likeliest tokens with theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

impl From<Choice> for Token {
    fn from(choice: Choice) -> Self {
        let Choice { token: id, logprobs } = choice;
        match logprobs {
            Some(Logprobs { token, top }) => Self { id, logprob: Some(token), top },
            None => Self { id, logprob: None, top: Vec::new() },
        }
    }
}

/// What happens to a request, in this order: `Started`, `Prompt` if asked for, then for each choice any
/// number of `Text` and one `Finished`. `Failed` is the last event, at any time.
#[derive(Debug, Clone)]
pub enum Event {
    /// The first of the choices has joined the batch.
    Started {
        /// Tokens of the prompt that were in the cache already.
        cached_tokens: usize,
    },
    /// The prompt's tokens with their log-probabilities; the first token has none.
    Prompt {
        /// All of the prompt's tokens.
        tokens: Vec<Token>,
    },
    /// A piece of an answer.
    Text {
        /// Index of the answer.
        choice: usize,
        /// Whole characters, possibly none. Text that may be the start of a stop string comes later.
        text: String,
        /// The tokens of this text, without stop tokens and tokens of a stop string.
        tokens: Vec<Token>,
    },
    /// The end of an answer.
    Finished {
        /// Index of the answer.
        choice: usize,
        /// Why it ended.
        reason: FinishReason,
        /// Generated tokens, including a stop token and the tokens of a stop string.
        tokens: usize,
    },
    /// The end of the request.
    Failed(RequestError),
}

/// The events of a request, as an async [`Stream`] or [one by one](Self::blocking_recv). Dropping it
/// cancels the request.
#[derive(Debug)]
pub struct Generation {
    events: UnboundedReceiver<Event>,
    choices: usize,
    // Dropped after the receiver is closed: the engine then finds nobody there.
    wake: Wake,
}

impl Generation {
    pub(super) fn new(events: UnboundedReceiver<Event>, choices: usize, wake: Wake) -> Self {
        Self { events, choices, wake }
    }

    /// The next event; `None` after the last.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, for threads outside of an async runtime; `None` after the last.
    ///
    /// # Panics
    /// If it is called within an async runtime.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// Waits for the end of all answers.
    ///
    /// # Errors
    /// That of [`Event::Failed`].
    pub async fn answer(mut self) -> Result<Answer, RequestError> {
        let mut answer = Answer::new(self.choices);
        while let Some(event) = self.recv().await {
            answer.push(event)?;
        }
        answer.complete()
    }

    /// Waits for the end of all answers, for threads outside of an async runtime.
    ///
    /// # Errors
    /// That of [`Event::Failed`].
    ///
    /// # Panics
    /// If it is called within an async runtime.
    pub fn blocking_answer(mut self) -> Result<Answer, RequestError> {
        let mut answer = Answer::new(self.choices);
        while let Some(event) = self.blocking_recv() {
            answer.push(event)?;
        }
        answer.complete()
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.events.close();
        self.wake.now();
    }
}

/// All events of a request put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Tokens of the prompt that were in the cache already.
    pub cached_tokens: usize,
    /// The prompt's tokens, if their log-probabilities were asked for.
    pub prompt: Vec<Token>,
    /// The answers in order.
    pub choices: Vec<ChoiceAnswer>,
}

/// One of a request's answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChoiceAnswer {
    /// The text.
    pub text: String,
    /// Its tokens, without stop tokens and tokens of a stop string.
    pub tokens: Vec<Token>,
    /// Why it ended; `None` while it has not.
    pub reason: Option<FinishReason>,
    /// Generated tokens, including a stop token and the tokens of a stop string.
    pub generated: usize,
}

impl Answer {
    /// No events yet.
    pub fn new(choices: usize) -> Self {
        let choices = vec![ChoiceAnswer::default(); choices];
        Self { cached_tokens: 0, prompt: Vec::new(), choices }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// That of [`Event::Failed`].
    pub fn push(&mut self, event: Event) -> Result<(), RequestError> {
        match event {
            Event::Started { cached_tokens } => self.cached_tokens = cached_tokens,
            Event::Prompt { tokens } => self.prompt = tokens,
            Event::Text { choice, text, tokens } => {
                self.choices[choice].text += &text;
                self.choices[choice].tokens.extend(tokens);
            }
            Event::Finished { choice, reason, tokens } => {
                self.choices[choice].reason = Some(reason);
                self.choices[choice].generated = tokens;
            }
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Token ids of each answer.
    pub fn token_ids(&self) -> Vec<Vec<u32>> {
        let ids = |own: &ChoiceAnswer| own.tokens.iter().map(|token| token.id).collect();
        self.choices.iter().map(ids).collect()
    }

    fn complete(self) -> Result<Self, RequestError> {
        // Events that end early: the engine is gone.
        if self.choices.iter().any(|own| own.reason.is_none()) {
            return Err(RequestError::Aborted);
        }
        Ok(self)
    }
}
