//! prompts and how to go on ─► [`Generator`] ─► completions

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use crate::sample::SamplingConfig;

/// How far a text goes on, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Most tokens to add; cut to what the model's context leaves behind the prompt.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
    /// Tokens that end a text. They are not part of it.
    pub stop_tokens: Vec<u32>,
    /// What an empty prompt starts with; without it an empty prompt is an error.
    pub bos: Option<u32>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop_tokens: Vec::new(),
            bos: None,
        }
    }
}

impl GenerationConfig {
    /// The defaults, with the tokenizer's tokens for the start and the end of a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { stop_tokens: tokenizer.eos.clone(), bos: tokenizer.bos, ..Self::default() }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or a stop string came.
    Stop,
    /// The most tokens asked for, or the end of the model's context.
    Length,
}

/// What one step did to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It grew by this token.
    Token(u32),
    /// It has ended, now or before.
    Finished(FinishReason),
}

/// One text to continue, with settings of its own.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// How it goes on.
    pub config: GenerationConfig,
}

/// A finished row of [`generate`](crate::generate).
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The new tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: FinishReason,
    /// Time of the pass over the prompts of the whole batch, to the first token.
    pub seconds_prompt: f64,
    /// Time from the first token to the row's end.
    pub seconds_decode: f64,
}
