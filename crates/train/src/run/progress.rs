//! The progress of a run: what its checkpoints hold besides the trainer's state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::events::{RunSummary, Throughput};
use crate::data::RunRowCounts;
use crate::eval::{Accuracy, LabelLoss};
use crate::trainer::StepReport;

/// The result of an evaluation: loss, and exact match if requested.
type Evaluation = (LabelLoss, Option<Accuracy>);

/// The evaluation with the lowest held-out loss.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct BestEval {
    /// Completed steps.
    pub step: usize,
    pub loss: LabelLoss,
    /// Evaluations since then.
    pub evaluations_since: usize,
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
    /// Whether the training has ended before its last step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
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

    /// Adds a held-out loss after a step and returns whether it is the lowest so far.
    pub fn record_eval(&mut self, step: usize, loss: LabelLoss) -> bool {
        if let Some(best) = &mut self.best_eval
            && loss.loss >= best.loss.loss
        {
            best.evaluations_since += 1;
            return false;
        }
        self.best_eval = Some(BestEval { step, loss, evaluations_since: 0 });
        true
    }

    /// Evaluations since the lowest held-out loss.
    pub fn evaluations_since_best(&self) -> usize {
        self.best_eval.map_or(0, |best| best.evaluations_since)
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

    /// The summary of a run with this progress. `keep_best`: its result is the best adapter.
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
        let best = self.best_eval.filter(|_| keep_best);
        RunSummary {
            output: output.into(),
            steps,
            stopped_early: self.stopped_early,
            best_step: best.map(|best| best.step),
            train_loss: sum / labels.max(1) as f64,
            eval_loss_before: loss(self.base_eval),
            eval_loss: best.map(|best| best.loss.loss).or(loss(self.latest_eval)),
            exact_match_before: exact_match(self.base_eval),
            exact_match: exact_match(self.latest_eval),
            trainable_parameters,
            seconds,
            label_tokens_per_second: self.label_tokens_per_second(),
            rows,
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
            let improved = progress.record_eval(step, LabelLoss { labels: 1, loss });
            (improved, progress.evaluations_since_best())
        };
        assert_eq!(record(1, 2.0), (true, 0));
        assert_eq!(record(2, 2.0), (false, 1), "an equal loss is no improvement");
        assert_eq!(record(3, 2.5), (false, 2));
        assert_eq!(record(4, 1.5), (true, 0));
        assert_eq!(progress.best_eval.unwrap().step, 4);
    }

    #[test]
    fn progress_of_older_runs_is_read() {
        let older = r#"{"before":null,"after":null,"recent":[],"labels":3,"train_seconds":1.0,"seconds":2.0}"#;
        let progress: RunProgress = serde_json::from_str(older).unwrap();
        assert!(progress.best_eval.is_none() && !progress.stopped_early);
        assert_eq!(serde_json::to_string(&progress).unwrap(), older);
    }
}
