//! The bookkeeping of a run: what its checkpoints and its log keep beside the trainer's state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::events::{RunSummary, Throughput};
use crate::data::read::RunRowCounts;
use crate::eval::{ExactMatch, LabelLoss};
use crate::trainer::StepReport;

/// What a checkpoint keeps beside the trainer's own state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunProgress {
    /// Of the base model.
    #[serde(rename = "before")]
    pub base_eval: Option<(LabelLoss, Option<ExactMatch>)>,
    /// The latest evaluation.
    #[serde(rename = "after")]
    pub latest_eval: Option<(LabelLoss, Option<ExactMatch>)>,
    /// Each of the last epoch's worth of steps, at most 1000.
    #[serde(rename = "recent")]
    recent_losses: Vec<LabelLoss>,
    labels: usize,
    train_seconds: f64,
    pub seconds: f64,
}

impl RunProgress {
    pub fn record_step(&mut self, report: &StepReport, seconds: f64, steps_per_epoch: usize) {
        /// Every checkpoint holds them.
        const MAX_STEPS: usize = 1000;
        self.recent_losses.push(LabelLoss { labels: report.labels, loss: report.loss });
        if self.recent_losses.len() > steps_per_epoch.min(MAX_STEPS) {
            self.recent_losses.remove(0);
        }
        self.labels += report.labels;
        self.train_seconds += seconds;
    }

    pub fn throughput(&self, report: &StepReport, total: usize) -> Throughput {
        Throughput {
            label_tokens_per_second: self.label_tokens_per_second(),
            steps_left: total.saturating_sub(report.step),
            seconds_per_step: self.train_seconds / report.step as f64,
        }
    }

    fn label_tokens_per_second(&self) -> f64 {
        if self.train_seconds > 0.0 { self.labels as f64 / self.train_seconds } else { 0.0 }
    }

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
        let loss = |found: Option<(LabelLoss, _)>| found.map(|(loss, _)| loss.loss);
        let share = |found: Option<(LabelLoss, Option<ExactMatch>)>| {
            found.and_then(|(_, found)| found).map(|found| found.fraction())
        };
        RunSummary {
            output: output.into(),
            steps,
            train_loss: sum / labels.max(1) as f64,
            eval_loss_before: loss(self.base_eval),
            eval_loss: loss(self.latest_eval),
            exact_match_before: share(self.base_eval),
            exact_match: share(self.latest_eval),
            trainable_parameters,
            seconds,
            label_tokens_per_second: self.label_tokens_per_second(),
            rows,
        }
    }
}

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
    pub fn from_step(report: &StepReport, seconds: f64) -> Self {
        let StepReport {
            step,
            loss,
            learning_rate: rate,
            gradient_norm,
            labels,
            processed_tokens: slots,
        } = *report;
        Self::Step {
            step,
            loss,
            learning_rate: rate,
            gradient_norm,
            labels,
            processed_tokens: slots,
            seconds,
        }
    }
}
