//! Tokens of a step, finish reasons, completions.

use serde::{Deserialize, Serialize};

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// The maximum number of new tokens, or the end of the model's context.
    Length,
}

/// Output of one step for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutput {
    /// A new token.
    Token(u32),
    /// The row has finished, in this step or earlier.
    Finished(FinishReason),
}

/// Output of [`generate`](super::generate) for one prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// New tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why the completion ended.
    pub finish_reason: FinishReason,
    /// Time of the prefill of the whole batch, up to the first token.
    pub prefill_seconds: f64,
    /// Time from the first token to the row's last.
    pub decode_seconds: f64,
}
