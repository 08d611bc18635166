//! The learning rate of a step: linear warmup, then cosine decay to zero.

use serde::{Deserialize, Serialize};

/// The learning rate as a pure function of the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningRateSchedule {
    /// Peak learning rate.
    pub peak_learning_rate: f64,
    /// Number of warmup steps; may be 0.
    pub warmup_steps: usize,
    /// Number of all steps, warmup included.
    pub total_steps: usize,
}

impl LearningRateSchedule {
    /// The learning rate of a step, counted from 0; 0 after the last step.
    ///
    /// Source: the original LLaMA-Adapter's `util/lr_sched.py`.
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak_learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let decay_steps = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = ((step - self.warmup_steps) as f64 / decay_steps as f64).min(1.0);
        self.peak_learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_linearly_and_decays_by_cosine() {
        let schedule =
            LearningRateSchedule { peak_learning_rate: 0.8, warmup_steps: 4, total_steps: 12 };
        let rates = [0, 3, 4, 8, 12, 40].map(|step| schedule.learning_rate(step));
        for (rate, expected) in rates.into_iter().zip([0.2, 0.8, 0.8, 0.4, 0.0, 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rate} != {expected}");
        }
    }

    #[test]
    fn zero_warmup_starts_at_the_peak() {
        assert_eq!(
            LearningRateSchedule { peak_learning_rate: 0.1, warmup_steps: 0, total_steps: 1 }
                .learning_rate(0),
            0.1
        );
    }
}
