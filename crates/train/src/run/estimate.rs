//! What a run would do, without doing it: its size, and its duration from a few measured steps.

use std::borrow::Cow;
use std::time::Instant;

use serde::Serialize;

use super::events::Event;
use super::run_folder::{check_empty, check_resume};
use super::training_run::{PreparedRun, TrainingRun};
use crate::checkpoint::CHECKPOINT_FILE;
use crate::data::{ExampleStore, TruncationCounts};
use crate::error::Result;
use crate::eval::evaluate_loss;
use crate::trainable::TrainableWeights;

/// Steps that are performed and thrown away: one to warm up, the others to measure.
const MEASURED_STEPS: usize = 3;

/// The estimate of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunEstimate {
    /// Training examples.
    pub train: TruncationCounts,
    /// Held-out examples.
    pub eval: TruncationCounts,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// Steps that a resumed run has completed.
    pub completed_steps: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Number of trainable parameters.
    pub trainable_parameters: usize,
    /// Tokens of the longest training example.
    pub longest_example: usize,
    /// Mean number of labels of a training example.
    pub labels_per_row: f64,
    /// Mean number of labels of a measured step.
    pub labels_per_step: f64,
    /// Mean duration of a measured step.
    pub seconds_per_step: f64,
    /// Estimated duration of all evaluations of the held-out loss. The exact match is not included: its
    /// duration depends on the responses.
    pub evaluation_seconds: f64,
    /// Estimated duration of the remaining steps and evaluations.
    pub seconds: f64,
}

impl TrainingRun<'_> {
    /// Checks everything that [`run`](Self::run) checks, performs a few steps, and estimates the duration of
    /// the run. Nothing is written.
    ///
    /// # Errors
    /// The errors with which [`run`](Self::run) would refuse to start.
    pub fn estimate(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<RunEstimate> {
        if resume {
            check_resume(self.output, &self.record()?)?;
        } else {
            check_empty(self.output)?;
        }
        let config = self.config_without_files();
        let prepared = TrainingRun { config: &config, ..*self }.prepare(observer)?;
        let PreparedRun { mut trainer, eval, .. } = prepared;
        let checkpoint = self.output.join(CHECKPOINT_FILE);
        if resume && checkpoint.exists() {
            trainer.load_checkpoint::<serde_json::Value>(&checkpoint)?;
        }
        let (completed_steps, total_steps) = (trainer.completed_steps(), trainer.total_steps());
        let steps_per_epoch = trainer.steps_per_epoch();
        let steps_left = total_steps.saturating_sub(completed_steps);
        let evaluations = evaluations_left(completed_steps, total_steps, steps_per_epoch);
        let evaluation_seconds =
            evaluations as f64 * self.seconds_per_evaluation(&trainer.trainable(), &eval)?;
        let (mut seconds_per_step, mut labels_per_step) = (0.0, 0.0);
        if steps_left > 0 {
            trainer.step()?;
            trainer.reports()?;
            let begin = Instant::now();
            for _ in 0..MEASURED_STEPS {
                trainer.step()?;
            }
            let reports = trainer.reports()?;
            seconds_per_step = begin.elapsed().as_secs_f64() / MEASURED_STEPS as f64;
            let labels: usize = reports.iter().map(|report| report.labels).sum();
            labels_per_step = labels as f64 / MEASURED_STEPS as f64;
        }
        Ok(RunEstimate {
            train: prepared.train_counts,
            eval: prepared.eval_counts,
            total_steps,
            completed_steps,
            steps_per_epoch,
            trainable_parameters: prepared.trainable_parameters,
            longest_example: prepared.longest,
            labels_per_row: prepared.labels_per_row,
            labels_per_step,
            seconds_per_step,
            evaluation_seconds,
            seconds: steps_left as f64 * seconds_per_step + evaluation_seconds,
        })
    }

    /// The duration of an evaluation of the held-out loss, from some of the examples.
    fn seconds_per_evaluation(
        &self,
        weights: &TrainableWeights,
        eval: &ExampleStore,
    ) -> Result<f64> {
        let batch_size = self.config.batch_size.max(8);
        // Of those sorted by length, the ones at equal distances are like all.
        let every = eval.len().div_ceil(2 * batch_size).max(1);
        let mut order = (0..eval.len()).collect::<Vec<_>>();
        order.sort_by_key(|&index| eval.n_tokens(index));
        let some = order.iter().copied().step_by(every).collect::<Vec<_>>();
        let tokens =
            |indices: &[usize]| indices.iter().map(|&index| eval.n_tokens(index)).sum::<usize>();
        let examples = eval.select(&some)?.into_iter().map(Cow::into_owned).collect::<Vec<_>>();
        let begin = Instant::now();
        weights.with_adapter(self.llama, self.image_features, |llama, adapter| {
            evaluate_loss(llama, adapter, &examples, batch_size, &mut |_| {})
        })?;
        let share = tokens(&order) as f64 / tokens(&some).max(1) as f64;
        Ok(begin.elapsed().as_secs_f64() * share)
    }
}

/// The evaluations of a run after some steps: one of the base model, and one after each epoch.
fn evaluations_left(completed: usize, total: usize, steps_per_epoch: usize) -> usize {
    let until = |step: usize| step / steps_per_epoch;
    let last = usize::from(completed < total && !total.is_multiple_of(steps_per_epoch));
    until(total).saturating_sub(until(completed)) + last + usize::from(completed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_each_epoch_and_the_end_are_evaluated() {
        assert_eq!(evaluations_left(0, 30, 10), 4);
        assert_eq!(evaluations_left(0, 25, 10), 4);
        assert_eq!(evaluations_left(12, 25, 10), 2);
        assert_eq!(evaluations_left(25, 25, 10), 0);
    }
}
