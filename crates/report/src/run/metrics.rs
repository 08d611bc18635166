//! `metrics.jsonl`: one JSON object per event.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// File of the log in the folder of a run.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// The log of a run, in the order of the steps.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// What was known before the first step.
    pub start: Option<Start>,
    /// Optimizer steps.
    pub steps: Vec<Step>,
    /// Evaluations of the held-out rows.
    pub evals: Vec<Eval>,
    /// Gates over time.
    pub gates: Vec<GateEntry>,
    /// Lines that are not events, such as the last line of a killed run.
    pub unreadable_lines: usize,
}

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Start {
    /// Steps of the whole run.
    pub total_steps: usize,
    /// Steps of an epoch.
    #[serde(default)]
    pub steps_per_epoch: usize,
    /// Number of trainable parameters.
    #[serde(default)]
    pub trainable_parameters: u64,
    /// Training rows.
    #[serde(default)]
    pub train: RowCounts,
    /// Held-out rows.
    #[serde(default)]
    pub eval: RowCounts,
}

/// What the length limit did to rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RowCounts {
    /// Rows that are complete.
    pub complete: u64,
    /// Rows whose output was truncated.
    #[serde(default)]
    pub truncated: u64,
    /// Rows that were dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// An optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// Completed steps, this one included.
    pub step: usize,
    /// Mean loss of a label in nats; NaN if it was not finite.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Learning rate.
    #[serde(default = "nan", deserialize_with = "number")]
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    #[serde(default = "nan", deserialize_with = "number")]
    pub gradient_norm: f64,
    /// Labels of the step.
    #[serde(default)]
    pub labels: u64,
    /// Duration.
    #[serde(default = "nan", deserialize_with = "number")]
    pub seconds: f64,
    /// Resident memory of the process in bytes.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// An evaluation of the held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Eval {
    /// Completed steps.
    pub step: usize,
    /// Mean loss of a label in nats.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Fraction of exactly matching responses.
    #[serde(default)]
    pub exact_match: Option<f64>,
}

/// The gates after a step.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GateEntry {
    /// Completed steps.
    pub step: usize,
    /// From the lowest adapted layer to the highest.
    pub layers: Vec<LayerGates>,
}

/// The gates of one layer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct LayerGates {
    /// Layer index.
    pub layer: usize,
    /// One value, or one per head.
    pub gates: Vec<f64>,
}

impl LayerGates {
    /// Mean of the absolute values: how far the layer is open. 0 without gates.
    pub fn openness(&self) -> f64 {
        let sum: f64 = self.gates.iter().map(|gate| gate.abs()).sum();
        sum / self.gates.len().max(1) as f64
    }

    /// Mean; 0 without gates.
    pub fn mean(&self) -> f64 {
        self.gates.iter().sum::<f64>() / self.gates.len().max(1) as f64
    }
}

/// A line of the log. Events of later versions are ignored.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Start(Start),
    Step(Step),
    Eval(Eval),
    Gates(GateEntry),
    #[serde(other)]
    Other,
}

/// A number that is not finite is null in JSON.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn nan() -> f64 {
    f64::NAN
}

impl Metrics {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path).map_err(Error::read(path))?);
        let mut metrics = Self::default();
        let mut line = Vec::new();
        let mut lines = 0;
        while reader.read_until(b'\n', &mut line).map_err(Error::read(path))? > 0 {
            if !line.trim_ascii().is_empty() {
                lines += 1;
                metrics.add(&line);
            }
            line.clear();
        }
        let Self { start, steps, evals, gates, .. } = &mut metrics;
        if start.is_none() && steps.is_empty() && evals.is_empty() {
            let found = match lines {
                0 => "the file is empty".into(),
                lines => format!("none of {lines} lines is an event of a run"),
            };
            return Err(Error::NoEvents { path: path.into(), found });
        }
        steps.sort_by_key(|step| step.step);
        evals.sort_by_key(|eval| eval.step);
        gates.sort_by_key(|entry| entry.step);
        Ok(metrics)
    }

    fn add(&mut self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Event::Start(start)) => self.start = Some(start),
            Ok(Event::Step(step)) => self.steps.push(step),
            Ok(Event::Eval(eval)) => self.evals.push(eval),
            Ok(Event::Gates(entry)) => self.gates.push(entry),
            Ok(Event::Other) => {}
            Err(_not_an_event) => self.unreadable_lines += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Metrics> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(METRICS_FILE);
        std::fs::write(&path, text).unwrap();
        Metrics::read(&path)
    }

    #[test]
    fn the_log_of_an_older_version_is_read() {
        let metrics = read(
            "{\"event\":\"eval\",\"step\":0,\"loss\":3.5,\"perplexity\":33.1,\"exact_match\":null}\n\
             {\"event\":\"step\",\"step\":1,\"loss\":2.5,\"learning_rate\":0.1,\"gradient_norm\":1.5,\
             \"labels\":9,\"slots\":99,\"seconds\":0.25}\n",
        );
        let metrics = metrics.unwrap();
        assert_eq!((metrics.start, metrics.gates.len()), (None, 0));
        assert_eq!((metrics.evals[0].loss, metrics.evals[0].exact_match), (3.5, None));
        assert_eq!((metrics.steps[0].gradient_norm, metrics.steps[0].memory), (1.5, None));
    }

    #[test]
    fn unknown_events_are_ignored_and_torn_lines_are_counted() {
        let metrics = read(
            "{\"event\":\"later\",\"step\":1}\n{\"event\":\"step\",\"step\":1,\"loss\":2}\n\n\
             {\"event\":\"step\",\"step\":2,\"lo",
        );
        let metrics = metrics.unwrap();
        assert_eq!((metrics.steps.len(), metrics.unreadable_lines), (1, 1));
    }

    #[test]
    fn a_loss_that_is_not_finite_is_nan() {
        let metrics = read("{\"event\":\"step\",\"step\":1,\"loss\":null}\n").unwrap();
        assert!(metrics.steps[0].loss.is_nan());
    }

    #[test]
    fn a_file_of_something_else_has_no_events() {
        for text in ["", "\u{1}\u{2}\n\u{ff}", "[1,2]\n{}\n", "{\"event\":\"later\"}"] {
            assert!(matches!(read(text), Err(Error::NoEvents { .. })), "{text:?}");
        }
    }
}
