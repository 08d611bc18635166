//! The result of a learning-rate range test: the loss at each learning rate, and a suggestion.
//!
//! ```text
//! loss │───────╮
//!      │        ╲ steepest: the suggestion    ╱
//!      │         ╲                           ╱
//!      │          ╰───────────── lowest ────╯  diverges
//!      └──────────────────────────────────────► learning rate, logarithmic
//! ```
//!
//! Source: Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186, section 3.3; the
//! choice of the steepest point is fastai's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// File of the curve in the folder of a run.
pub const CURVE_FILE: &str = "learning_rates.json";
/// The points of the curve as a table.
pub const CURVE_CSV_FILE: &str = "learning_rates.csv";

/// A step of a range test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearningRatePoint {
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Mean loss of a label before the step, in nats.
    pub loss: f64,
    /// The loss, averaged over this step and its neighbors.
    pub smoothed_loss: f64,
}

/// The losses of a range test, by ascending learning rate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LearningRateCurve {
    /// The learning rate at which the smoothed loss falls fastest, rounded to two digits; none if it never
    /// falls.
    pub suggested: Option<f64>,
    /// Whether the loss diverged, so that no higher learning rate was tried.
    pub diverged: bool,
    /// The steps.
    pub points: Vec<LearningRatePoint>,
}

/// Whether a loss has diverged, seen from the losses before it.
#[derive(Debug, Default)]
pub(super) struct Divergence {
    first: Option<f64>,
    average: f64,
    lowest: f64,
}

impl Divergence {
    /// Adds the loss of the next step and returns whether it has diverged: it is not finite, or the recent
    /// average is above the lowest one by half of the first loss.
    pub fn push(&mut self, loss: f64) -> bool {
        /// Weight of the previous losses in the average.
        const MEMORY: f64 = 0.7;
        if !loss.is_finite() {
            return true;
        }
        let Some(first) = self.first else {
            *self = Self { first: Some(loss), average: loss, lowest: loss };
            return false;
        };
        self.average = MEMORY * self.average + (1.0 - MEMORY) * loss;
        self.lowest = self.lowest.min(self.average);
        self.average - self.lowest > 0.5 * first
    }
}

impl LearningRateCurve {
    /// The curve of steps, as learning rate and loss.
    pub(super) fn new(steps: &[(f64, f64)], diverged: bool) -> Self {
        /// Neighbors on each side that a loss is averaged with; fewer at the ends.
        const NEIGHBORS: usize = 3;
        let point = |at: usize| {
            let reach = NEIGHBORS.min(at).min(steps.len() - 1 - at);
            let near = &steps[at - reach..=at + reach];
            let sum: f64 = near.iter().map(|(_, loss)| loss).sum();
            let (learning_rate, loss) = steps[at];
            LearningRatePoint { learning_rate, loss, smoothed_loss: sum / near.len() as f64 }
        };
        let points = (0..steps.len()).map(point).collect::<Vec<_>>();
        Self { suggested: steepest(&points), diverged, points }
    }

    /// Writes the curve as JSON and its points as CSV.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("plain JSON");
        let rows = self.points.iter().map(|point| {
            let LearningRatePoint { learning_rate, loss, smoothed_loss } = point;
            format!("{learning_rate},{loss},{smoothed_loss}\n")
        });
        let table = format!("learning_rate,loss,smoothed_loss\n{}", rows.collect::<String>());
        checkpoint::files::write(&folder.join(CURVE_FILE), format!("{json}\n").as_bytes())?;
        checkpoint::files::write(&folder.join(CURVE_CSV_FILE), table.as_bytes())?;
        Ok(())
    }
}

/// The learning rate at which the smoothed loss falls fastest, before its lowest point.
fn steepest(points: &[LearningRatePoint]) -> Option<f64> {
    /// Half of the steps over which a slope is measured.
    const REACH: usize = 2;
    let by_second = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
    let losses = points.iter().map(|point| point.smoothed_loss).enumerate();
    let (lowest, _) = losses.min_by(by_second)?;
    let slope = |at: usize| {
        let (left, right) = (at.saturating_sub(REACH), (at + REACH).min(points.len() - 1));
        let fall = points[left].smoothed_loss - points[right].smoothed_loss;
        (at, fall / (right - left).max(1) as f64)
    };
    let (at, fall) = (0..=lowest).map(slope).max_by(by_second)?;
    (fall > 0.0).then(|| two_digits(points[at].learning_rate))
}

/// A positive number, rounded to two digits.
fn two_digits(x: f64) -> f64 {
    format!("{x:.1e}").parse().expect("a number")
}

/// A learning rate to try instead of one at which training diverged.
pub(super) fn lower_learning_rate(diverged: f64) -> f64 {
    /// The highest suggestion: the usual rate of prompts.
    const USUAL: f64 = 1e-2;
    let lower = (diverged / 10.0).min(USUAL);
    format!("{lower:.0e}").parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve over the rates 1e-5 to 10, in steps of a tenth of a decade.
    fn curve(loss: impl Fn(f64) -> f64) -> LearningRateCurve {
        let (mut steps, mut divergence, mut diverged) = (Vec::new(), Divergence::default(), false);
        for step in 0..=60 {
            let log_rate = -5.0 + f64::from(step) / 10.0;
            diverged = divergence.push(loss(log_rate));
            if diverged {
                break;
            }
            steps.push((10_f64.powf(log_rate), loss(log_rate)));
        }
        LearningRateCurve::new(&steps, diverged)
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_fastest() {
        // A sigmoid that falls fastest at 1e-2.
        let found = curve(|log_rate| 4.0 - 3.0 / (1.0 + (-4.0 * (log_rate + 2.0)).exp()));
        assert!(!found.diverged);
        let suggested = found.suggested.unwrap();
        assert!((8e-3..=1.3e-2).contains(&suggested), "{suggested}");
    }

    #[test]
    fn the_test_ends_when_the_loss_diverges() {
        let found =
            curve(|log_rate| if log_rate < -1.0 { 3.0 - 0.2 * (log_rate + 5.0) } else { 9.0 });
        assert!(found.diverged);
        let last = found.points.last().unwrap();
        assert!((0.07..0.2).contains(&last.learning_rate), "{last:?}");
        assert!(found.suggested.unwrap() < 0.1);
        let found = curve(|log_rate| if log_rate < -1.0 { 3.0 } else { f64::NAN });
        assert!(
            found.diverged && (39..=41).contains(&found.points.len()),
            "{}",
            found.points.len()
        );
    }

    #[test]
    fn a_loss_that_never_falls_suggests_nothing() {
        assert_eq!(curve(|_| 3.0).suggested, None);
        assert_eq!(curve(|log_rate| 9.0 + log_rate).suggested, None);
        assert_eq!(LearningRateCurve::new(&[], false).suggested, None);
    }

    #[test]
    fn a_rate_that_diverged_is_lowered_to_a_usual_one() {
        assert_eq!(lower_learning_rate(0.03), 0.003);
        assert_eq!(lower_learning_rate(1e30), 0.01);
    }

    #[test]
    fn the_curve_is_written_as_json_and_as_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let found = curve(|log_rate| 3.0 - log_rate);
        found.write(folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let parsed: LearningRateCurve = serde_json::from_str(&read(CURVE_FILE)).unwrap();
        assert_eq!(parsed.points.len(), found.points.len());
        let table = read(CURVE_CSV_FILE);
        let second = table.lines().nth(1).unwrap();
        assert!(second.ends_with(",8,8"), "{second}");
        assert_eq!(table.lines().count(), found.points.len() + 1);
    }
}
