//! The entries of `metrics.jsonl`.

use adaption_prompt::LayerGates;
use serde::Serialize;

use super::process_memory::resident_bytes;
use super::progress::Evaluation;
use crate::data::TruncationCounts;
use crate::trainer::StepReport;

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum LogEntry {
    /// Before the first step.
    Start {
        step: usize,
        total_steps: usize,
        steps_per_epoch: usize,
        trainable_parameters: usize,
        train: TruncationCounts,
        eval: TruncationCounts,
    },
    Step {
        step: usize,
        loss: f64,
        learning_rate: f64,
        gradient_norm: f64,
        labels: usize,
        #[serde(rename = "slots")]
        processed_tokens: usize,
        seconds: f64,
        /// Resident memory of the process in bytes, where the system tells it.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<u64>,
    },
    /// How far the gates are open after a step; step 0 is before training.
    Gates {
        step: usize,
        layers: Vec<LayerGates>,
    },
    /// A step with a NaN or infinite loss or gradient; JSON has no such numbers.
    Skipped {
        step: usize,
        learning_rate: f64,
        labels: usize,
    },
    Eval {
        step: usize,
        loss: f64,
        perplexity: f64,
        exact_match: Option<f64>,
    },
    /// The evaluation of the saved adapter, if evaluations have chosen it.
    Result {
        step: usize,
        loss: f64,
        perplexity: f64,
        exact_match: Option<f64>,
    },
}

impl LogEntry {
    /// The entry of the evaluation of the saved adapter.
    pub fn from_result(step: usize, (loss, exact_match): Evaluation) -> Self {
        let exact_match = exact_match.map(|accuracy| accuracy.fraction());
        Self::Result { step, loss: loss.loss, perplexity: loss.perplexity(), exact_match }
    }

    /// The entry of a step that took `seconds`.
    pub fn from_step(report: &StepReport, seconds: f64) -> Self {
        let StepReport { step, loss, learning_rate, gradient_norm, labels, processed_tokens } =
            *report;
        if report.is_skipped() {
            return Self::Skipped { step, learning_rate, labels };
        }
        let memory = resident_bytes();
        Self::Step {
            step,
            loss,
            learning_rate,
            gradient_norm,
            labels,
            processed_tokens,
            seconds,
            memory,
        }
    }
}
