//! The progress of a run: what its checkpoints hold besides the trainer's state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::events::{RunSummary, Throughput};
use crate::data::RunRowCounts;
use crate::eval::{Accuracy, LabelLoss};
use crate::trainer::StepReport;

/// The result of an evaluation: loss, and exact match if requested.
type Evaluation = (LabelLoss, Option<Accuracy>);

/// The progress of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunProgress {
    /// Of the base model.
    #[serde(rename = "before")]
    pub base_eval: Option<Evaluation>,
    /// The latest one.
    #[serde(rename = "after")]
    pub latest_eval: Option<Evaluation>,
    /// The losses of the last epoch's steps, at most 1000.
    #[serde(rename = "recent")]
    recent_losses: Vec<LabelLoss>,
    labels: usize,
    train_seconds: f64,
    pub seconds: f64,
}

impl RunProgress {
    /// Adds a step that took `seconds`.
    pub fn record_step(&mut self, report: &StepReport, seconds: f64, steps_per_epoch: usize) {
        /// Limits the size of checkpoints.
        const MAX_STEPS: usize = 1000;
        self.recent_losses.push(LabelLoss { labels: report.labels, loss: report.loss });
        if self.recent_losses.len() > steps_per_epoch.min(MAX_STEPS) {
            self.recent_losses.remove(0);
        }
        self.labels += report.labels;
        self.train_seconds += seconds;
    }

    /// The throughput up to a step of `total_steps`.
    pub fn throughput(&self, report: &StepReport, total_steps: usize) -> Throughput {
        Throughput {
            label_tokens_per_second: self.label_tokens_per_second(),
            steps_left: total_steps.saturating_sub(report.step),
            seconds_per_step: self.train_seconds / report.step as f64,
        }
    }

    fn label_tokens_per_second(&self) -> f64 {
        if self.train_seconds > 0.0 { self.labels as f64 / self.train_seconds } else { 0.0 }
    }

    /// The summary of a run with this progress.
    pub fn summary(
        &self,
        output: &Path,
        steps: usize,
        trainable_parameters: usize,
        seconds: f64,
        rows: RunRowCounts,
    ) -> RunSummary {
        let sum: f64 = self.recent_losses.iter().map(|step| step.loss * step.labels as f64).sum();
        let labels: usize = self.recent_losses.iter().map(|step| step.labels).sum();
        let loss = |eval: Option<Evaluation>| eval.map(|(loss, _)| loss.loss);
        let exact_match = |eval: Option<Evaluation>| Some(eval?.1?.fraction());
        RunSummary {
            output: output.into(),
            steps,
            train_loss: sum / labels.max(1) as f64,
            eval_loss_before: loss(self.base_eval),
            eval_loss: loss(self.latest_eval),
            exact_match_before: exact_match(self.base_eval),
            exact_match: exact_match(self.latest_eval),
            trainable_parameters,
            seconds,
            label_tokens_per_second: self.label_tokens_per_second(),
            rows,
        }
    }
}
