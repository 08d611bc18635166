//! What an engine tells about itself while it runs: metrics and logs are made of it.

use std::time::Duration;

/// Is called by the engine's thread, which waits for it: it must return at once. Every method does nothing
/// by default.
pub trait Observer: Send + Sync {
    /// After each step.
    fn step(&self, step: &StepReport) {
        let _ = step;
    }

    /// At the first token of an answer; `since_arrival` is the time since the request was submitted.
    fn first_token(&self, since_arrival: Duration) {
        let _ = since_arrival;
    }

    /// At each further token of an answer; the time since the one before.
    fn token_gap(&self, gap: Duration) {
        let _ = gap;
    }

    /// At the end of each request, whatever ended it.
    fn finished(&self, request: &RequestReport) {
        let _ = request;
    }
}

/// Observes nothing.
impl Observer for () {}

/// One step of the engine.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Duration.
    pub time: Duration,
    /// Rows that computed their next token from the last.
    pub decoding: usize,
    /// Tokens of prompts.
    pub prefill_tokens: usize,
    /// New tokens.
    pub generated: usize,
    /// Rows that lost their cache in this step and are computed again later.
    pub preempted: usize,
}

/// One request at its end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestReport {
    /// Name of the adapter, or names joined by `+`; `None` for the base model.
    pub adapter: Option<String>,
    /// What ended it.
    pub outcome: Outcome,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache already.
    pub cached_tokens: usize,
    /// New tokens of all answers.
    pub generated_tokens: usize,
    /// From arrival to the first pass; `None` if there was none.
    pub queued: Option<Duration>,
    /// From arrival to the end.
    pub total: Duration,
    /// How many times an answer lost its cache.
    pub preemptions: usize,
}

/// What ended a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// All answers are complete, each by a stop token or stop string.
    Stop,
    /// All answers are complete, at least one by its maximum length.
    Length,
    /// Nobody waits for the answer any more.
    Cancelled,
    /// [`EngineConfig::request_time`](crate::EngineConfig::request_time) is over.
    TimedOut,
    /// The engine was stopped.
    Aborted,
    /// An error of its adapter, the model or the engine.
    Failed,
}

impl Outcome {
    /// A word for labels: `stop`, `length`, `cancelled`, `timed_out`, `aborted` or `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}
