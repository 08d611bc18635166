//! The learning rate of a step: linear warmup, then a decay.

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
    /// The course after the warmup.
    #[serde(default)]
    pub decay: LearningRateDecay,
}

/// The course of the learning rate after the warmup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRateDecay {
    /// Half a cosine, down to 0.
    ///
    /// Source: the original LLaMA-Adapter's `util/lr_sched.py`.
    #[default]
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// None: the peak to the end.
    Constant,
    /// Warmup-stable-decay: the peak, then down to 0 within the last fifth of all steps, as one minus
    /// the square root.
    ///
    /// Source: arXiv 2404.06395; arXiv 2405.18392 for the form of the decay.
    Wsd,
}

impl LearningRateDecay {
    /// Whether this is the default.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl LearningRateSchedule {
    /// The learning rate of a step, counted from 0. After the last step it is 0, or the peak if it is
    /// constant.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let Self { peak_learning_rate: peak, warmup_steps, total_steps, decay } = *self;
        if step < warmup_steps {
            return peak * (step + 1) as f64 / warmup_steps as f64;
        }
        // The fraction of the steps from `start` to the end that is done.
        let done_since = |start: usize| {
            let steps = total_steps.saturating_sub(start).max(1);
            (step.saturating_sub(start) as f64 / steps as f64).min(1.0)
        };
        match decay {
            LearningRateDecay::Cosine => {
                let done = done_since(warmup_steps);
                peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            LearningRateDecay::Linear => peak * (1.0 - done_since(warmup_steps)),
            LearningRateDecay::Constant => peak,
            LearningRateDecay::Wsd => {
                let start = total_steps - total_steps.div_ceil(5);
                peak * (1.0 - done_since(start.max(warmup_steps)).sqrt())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learning rates of a schedule with a peak of 0.8, four warmup steps and twenty steps.
    fn check(decay: LearningRateDecay, expected: &[(usize, f64)]) {
        let schedule = LearningRateSchedule {
            peak_learning_rate: 0.8,
            warmup_steps: 4,
            total_steps: 20,
            decay,
        };
        let warmup = [(0, 0.2), (1, 0.4), (3, 0.8)];
        for &(step, expected) in warmup.iter().chain(expected) {
            let rate = schedule.learning_rate(step);
            assert!((rate - expected).abs() < 1e-12, "{decay:?}, step {step}: {rate}");
        }
    }

    #[test]
    fn a_cosine_reaches_zero_after_the_last_step() {
        check(LearningRateDecay::Cosine, &[(4, 0.8), (12, 0.4), (20, 0.0), (40, 0.0)]);
    }

    #[test]
    fn a_line_reaches_zero_after_the_last_step() {
        check(LearningRateDecay::Linear, &[(4, 0.8), (8, 0.6), (12, 0.4), (20, 0.0), (40, 0.0)]);
    }

    #[test]
    fn a_constant_learning_rate_stays_at_the_peak() {
        check(LearningRateDecay::Constant, &[(4, 0.8), (19, 0.8), (40, 0.8)]);
    }

    #[test]
    fn wsd_decays_in_the_last_fifth_as_one_minus_the_root() {
        check(LearningRateDecay::Wsd, &[(4, 0.8), (16, 0.8), (17, 0.4), (20, 0.0), (40, 0.0)]);
    }

    #[test]
    fn zero_warmup_starts_at_the_peak() {
        for decay in [LearningRateDecay::Cosine, LearningRateDecay::Wsd] {
            let schedule = LearningRateSchedule {
                peak_learning_rate: 0.1,
                warmup_steps: 0,
                total_steps: 1,
                decay,
            };
            assert_eq!(schedule.learning_rate(0), 0.1);
        }
    }
}
