//! The entries of `metrics.jsonl`.

use serde::Serialize;

use crate::trainer::StepReport;

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum LogEntry {
    Step {
        step: usize,
        loss: f64,
        learning_rate: f64,
        gradient_norm: f64,
        labels: usize,
        #[serde(rename = "slots")]
        processed_tokens: usize,
        seconds: f64,
    },
    Eval {
        step: usize,
        loss: f64,
        perplexity: f64,
        exact_match: Option<f64>,
    },
}

impl LogEntry {
    /// The entry of a step that took `seconds`.
    pub fn from_step(report: &StepReport, seconds: f64) -> Self {
        let StepReport { step, loss, learning_rate, gradient_norm, labels, processed_tokens } =
            *report;
        Self::Step { step, loss, learning_rate, gradient_norm, labels, processed_tokens, seconds }
    }
}
