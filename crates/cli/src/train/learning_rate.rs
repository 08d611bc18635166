//! `--learning-rate find`: a range test ─► its curve on the terminal and in files, and a suggestion

use std::str::FromStr;

use serde_json::json;
use train::TrainingRun;
use train::run::{CURVE_FILE, LearningRateTest};

use super::Args;
use crate::failure::Result;
use crate::interrupt::{self, InterruptGuard};
use crate::output::{self, note};
use crate::progress::TrainingProgress;
use crate::terminal::plot;

/// The value of `--learning-rate`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearningRateChoice {
    /// A peak learning rate.
    Rate(f64),
    /// Measure one.
    Find,
}

impl FromStr for LearningRateChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "find" => Ok(Self::Find),
            number => match number.parse() {
                Ok(rate) => Ok(Self::Rate(rate)),
                Err(_) => Err("expected a number, such as 1e-2, or `find`".into()),
            },
        }
    }
}

impl Args {
    /// Whether a range test was asked for.
    pub(super) fn finds_learning_rate(&self) -> bool {
        self.learning_rate == Some(LearningRateChoice::Find)
    }

    /// Performs the range test and prints its result.
    pub(super) fn find_learning_rate(&self, run: &TrainingRun) -> Result {
        let mut progress = TrainingProgress::new(self.quiet);
        let guard = InterruptGuard::begin();
        let test = LearningRateTest::default();
        let curve = run.test_learning_rates(&test, &mut |event| progress.show(event));
        progress.clear();
        let curve = curve?;
        if guard.interrupted() {
            note("the range test was stopped");
            interrupt::exit();
        }
        drop(guard);
        if !self.quiet {
            let points =
                curve.points.iter().map(|point| (point.learning_rate.log10(), point.smoothed_loss));
            note(&plot(&points.collect::<Vec<_>>(), &|log_rate| {
                format!("{:.0e}", 10_f64.powf(log_rate))
            }));
            let file = run.output.join(CURVE_FILE);
            let suggestion = match curve.suggested {
                Some(rate) => format!("the loss falls fastest at --learning-rate {rate:e}"),
                None => "the loss never falls: check the data and the other settings".into(),
            };
            note(&format!("\n{suggestion}; the curve is in {}", file.display()));
        }
        Ok(output::json(&json!({
            "output": run.output.to_string_lossy(),
            "suggested": curve.suggested,
            "diverged": curve.diverged,
            "steps": curve.points.len(),
        }))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learning_rate_is_a_number_or_find() {
        assert_eq!("1e-2".parse(), Ok(LearningRateChoice::Rate(0.01)));
        assert_eq!("find".parse(), Ok(LearningRateChoice::Find));
        let error = "fast".parse::<LearningRateChoice>().unwrap_err();
        assert_eq!(error, "expected a number, such as 1e-2, or `find`");
    }
}
