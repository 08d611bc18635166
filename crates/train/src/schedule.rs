//! Learning rate of a step: a linear rise, then half a cosine down to zero.

use serde::{Deserialize, Serialize};

/// The learning rate as a pure function of the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningRateSchedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Steps of the rise.
    pub warmup: usize,
    /// All steps, the rise included.
    pub total: usize,
}

impl LearningRateSchedule {
    /// The learning rate of a step, counted from 0. Past the end it stays 0.
    ///
    /// Source: the original release's `util/lr_sched.py`.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_in_a_line_and_falls_in_half_a_cosine() {
        let schedule = LearningRateSchedule { peak: 0.8, warmup: 4, total: 12 };
        let rates = [0, 3, 4, 8, 12, 40].map(|step| schedule.rate(step));
        for (rate, expected) in rates.into_iter().zip([0.2, 0.8, 0.8, 0.4, 0.0, 0.0]) {
            assert!((rate - expected).abs() < 1e-12, "{rate} != {expected}");
        }
    }

    #[test]
    fn without_warm_up_it_starts_at_the_peak() {
        assert_eq!(LearningRateSchedule { peak: 0.1, warmup: 0, total: 1 }.rate(0), 0.1);
    }
}
