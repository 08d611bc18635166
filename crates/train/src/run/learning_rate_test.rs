//! The learning-rate range test: short training with a rising learning rate, until the loss diverges.
//!
//! Source: Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3.

use super::events::Event;
use super::learning_rate_curve::{Divergence, LearningRateCurve};
use super::run_folder::RunFolder;
use super::training_run::{PreparedRun, TrainingRun};
use crate::error::{Error, Result};

/// A learning-rate range test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRateTest {
    /// The first learning rate.
    pub min: f64,
    /// The last learning rate, unless the loss diverges before.
    pub max: f64,
    /// Number of steps; the learning rate grows by the same factor in each.
    pub steps: usize,
}

impl Default for LearningRateTest {
    fn default() -> Self {
        Self { min: 1e-5, max: 1.0, steps: 100 }
    }
}

impl LearningRateTest {
    /// The learning rate of a step, counted from 0.
    fn learning_rate(&self, step: usize) -> f64 {
        let done = step as f64 / (self.steps.max(2) - 1) as f64;
        self.min * (self.max / self.min).powf(done)
    }
}

impl TrainingRun<'_> {
    /// Performs a learning-rate range test and writes its curve into the output folder. Nothing that is
    /// trained is saved; a run can use the folder afterwards.
    ///
    /// `observer` receives [`Event::Prepared`] and [`Event::Tested`].
    ///
    /// # Errors
    /// [`Error::OutputNotEmpty`] and the errors of a run. If the run is told to [stop](Self::stop), the
    /// curve ends early.
    pub fn test_learning_rates(
        &self,
        test: &LearningRateTest,
        observer: &mut dyn FnMut(Event),
    ) -> Result<LearningRateCurve> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !(positive(test.min) && positive(test.max) && test.min < test.max && test.steps >= 2) {
            return Err(Error::Config {
                field: "the range of learning rates",
                found: format!("{:e} to {:e} in {} steps", test.min, test.max, test.steps),
                expected: "ascending numbers above 0, and at least 2 steps",
            });
        }
        let _folder = RunFolder::lock_empty(self.output)?;
        let config = self.config_without_files();
        let run = TrainingRun { config: &config, ..*self };
        let PreparedRun { mut trainer, .. } = run.prepare(observer)?;
        let (mut steps, mut divergence, mut diverged) = (Vec::new(), Divergence::default(), false);
        while steps.len() < test.steps && !diverged && !self.stop_requested() {
            let learning_rate = test.learning_rate(steps.len());
            trainer.step_with_learning_rate(learning_rate)?;
            let loss = trainer.reports()?[0].loss;
            diverged = divergence.push(loss);
            if loss.is_finite() {
                steps.push((learning_rate, loss));
            }
            observer(Event::Tested { step: steps.len(), steps: test.steps, learning_rate, loss });
        }
        let curve = LearningRateCurve::new(&steps, diverged);
        curve.write(self.output)?;
        Ok(curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_grows_by_a_constant_factor_from_min_to_max() {
        let test = LearningRateTest { min: 1e-4, max: 1.0, steps: 5 };
        for (step, expected) in [1e-4, 1e-3, 1e-2, 1e-1, 1.0].into_iter().enumerate() {
            let found = test.learning_rate(step);
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} != {expected}");
        }
    }
}
