//! The progress of a run: what its checkpoints hold besides the trainer's state.

use std::path::Path;

use eval::Accuracy;
use serde::{Deserialize, Serialize};

use super::events::{RunSummary, Throughput};
use crate::data::RunRowCounts;
use crate::eval::LabelLoss;
use crate::trainer::StepReport;

/// The result of an evaluation: loss, and exact match if requested.
pub(super) type Evaluation = (LabelLoss, Option<Accuracy>);

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
    /// The step whose weights were evaluated last; the base model's evaluation is step 0.
    #[serde(default)]
    evaluated_step: Option<usize>,
    #[serde(default)]
    skipped_steps: usize,
    /// The skipped steps since the last good one.
    #[serde(default)]
    skipped_in_a_row: usize,
    /// What the frozen-prefix cache could use of the memory when the run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_spare_bytes: Option<u64>,
}

impl RunProgress {
    /// Adds an evaluation of the weights after a step.
    pub fn record_evaluation(&mut self, step: usize, evaluation: Evaluation) {
        match step {
            0 => self.base_eval = Some(evaluation),
            _ => self.latest_eval = Some(evaluation),
        }
        self.evaluated_step = Some(step);
    }

    /// Whether the weights after a step have been evaluated.
    pub fn is_evaluated(&self, step: usize) -> bool {
        // Checkpoints of earlier versions do not have the step.
        self.evaluated_step == Some(step) || (step == 0 && self.base_eval.is_some())
    }

    /// Number of skipped steps since the last good one.
    pub fn skipped_in_a_row(&self) -> usize {
        self.skipped_in_a_row
    }

    /// Adds a step that took `seconds`.
    pub fn record_step(&mut self, report: &StepReport, seconds: f64, steps_per_epoch: usize) {
        /// Limits the size of checkpoints.
        const MAX_STEPS: usize = 1000;
        self.train_seconds += seconds;
        if report.is_skipped() {
            self.skipped_steps += 1;
            self.skipped_in_a_row += 1;
            return;
        }
        self.skipped_in_a_row = 0;
        self.recent_losses.push(LabelLoss { labels: report.labels, loss: report.loss });
        if self.recent_losses.len() > steps_per_epoch.min(MAX_STEPS) {
            self.recent_losses.remove(0);
        }
        self.labels += report.labels;
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
            skipped_steps: self.skipped_steps,
            rows,
        }
    }
}
