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

/// The evaluation with the lowest held-out loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BestEval {
    /// Completed steps.
    pub step: usize,
    /// Evaluations since then.
    pub evaluations_since: usize,
    loss: LabelLoss,
}

/// The progress of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunProgress {
    /// Of the base model.
    #[serde(rename = "before")]
    pub base_eval: Option<Evaluation>,
    /// The latest one.
    #[serde(rename = "after")]
    pub latest_eval: Option<Evaluation>,
    /// The best one during training.
    #[serde(rename = "best", default, skip_serializing_if = "Option::is_none")]
    pub best_eval: Option<BestEval>,
    /// Of the saved adapter, if it is not the latest one or was chosen after the latest one.
    #[serde(rename = "result", default, skip_serializing_if = "Option::is_none")]
    pub result_eval: Option<Evaluation>,
    /// Whether the training has ended before its last step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
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
    /// Adds an evaluation of the weights after a step. Returns whether its loss is the lowest of the
    /// training so far.
    pub fn record_evaluation(&mut self, step: usize, evaluation: Evaluation) -> bool {
        self.evaluated_step = Some(step);
        if step == 0 {
            self.base_eval = Some(evaluation);
            return false;
        }
        self.latest_eval = Some(evaluation);
        let (loss, _) = evaluation;
        if let Some(best) = &mut self.best_eval
            && loss.loss >= best.loss.loss
        {
            best.evaluations_since += 1;
            return false;
        }
        self.best_eval = Some(BestEval { step, evaluations_since: 0, loss });
        true
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
        keep_best: bool,
        trainable_parameters: usize,
        seconds: f64,
        rows: RunRowCounts,
    ) -> RunSummary {
        let sum: f64 = self.recent_losses.iter().map(|step| step.loss * step.labels as f64).sum();
        let labels: usize = self.recent_losses.iter().map(|step| step.labels).sum();
        let loss = |eval: Option<Evaluation>| eval.map(|(loss, _)| loss.loss);
        let exact_match = |eval: Option<Evaluation>| Some(eval?.1?.fraction());
        let result = self.result_eval.or(self.latest_eval);
        RunSummary {
            output: output.into(),
            steps,
            stopped_early: self.stopped_early,
            best_step: self.best_eval.map(|best| best.step).filter(|_| keep_best),
            train_loss: sum / labels.max(1) as f64,
            eval_loss_before: loss(self.base_eval),
            eval_loss: loss(result),
            exact_match_before: exact_match(self.base_eval),
            exact_match: exact_match(result),
            trainable_parameters,
            seconds,
            label_tokens_per_second: self.label_tokens_per_second(),
            skipped_steps: self.skipped_steps,
            rows,
            division: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_without_a_lower_loss_are_counted() {
        let mut progress = RunProgress::default();
        let mut record = |step, loss| {
            let improved = progress.record_evaluation(step, (LabelLoss { labels: 1, loss }, None));
            (improved, progress.best_eval.map(|best| (best.step, best.evaluations_since)))
        };
        assert_eq!(record(0, 1.0), (false, None), "the base model");
        assert_eq!(record(1, 2.0), (true, Some((1, 0))));
        assert_eq!(record(2, 2.0), (false, Some((1, 1))), "an equal loss is no improvement");
        assert_eq!(record(3, 2.5), (false, Some((1, 2))));
        assert_eq!(record(4, 1.5), (true, Some((4, 0))));
    }
}
