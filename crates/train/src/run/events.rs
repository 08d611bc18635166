//! What a run tells while it works, and at its end.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::TruncationCounts;
use crate::data::read::RunRowCounts;
use crate::eval::{ExactMatch, LabelLoss};
use crate::trainer::StepReport;

/// What a run tells while it works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Rows became examples.
    Prepared {
        /// Examples to learn from, and what the length limit did to them.
        train: TruncationCounts,
        /// Examples to check with, likewise.
        eval: TruncationCounts,
        /// Steps of the whole run.
        total_steps: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Numbers that training changes.
        trainable_parameters: usize,
    },
    /// Goes on from a checkpoint.
    Resumed {
        /// Steps done already.
        step: usize,
    },
    /// A held-out row was looked at: so many of so many.
    Evaluating {
        /// Rows done.
        done: usize,
        /// Rows in all.
        rows: usize,
    },
    /// Held-out rows were evaluated.
    Evaluated {
        /// Steps done.
        step: usize,
        /// Loss over the labels.
        loss: LabelLoss,
        /// Exact match, where it was asked for.
        exact_match: Option<ExactMatch>,
    },
    /// A step was made.
    Stepped(StepReport, Throughput),
    /// The state was saved.
    Saved {
        /// Steps done.
        step: usize,
    },
}

/// How fast it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Labels learned from in a second, over the run's steps so far.
    pub label_tokens_per_second: f64,
    /// Steps that are left.
    pub steps_left: usize,
    /// Seconds a step took on average.
    pub seconds_per_step: f64,
}

/// Result of a run, and the line that `llama-adapter train` ends with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Folder of the adapter.
    #[serde(serialize_with = "crate::json::serialize_path")]
    pub output: PathBuf,
    /// Steps made.
    pub steps: usize,
    /// Mean loss of a label over the last epoch's worth of steps, at most 1000.
    pub train_loss: f64,
    /// Held-out loss of the base model.
    pub eval_loss_before: Option<f64>,
    /// Held-out loss of the adapted model.
    pub eval_loss: Option<f64>,
    /// Share of held-out rows the base model answers to the letter.
    pub exact_match_before: Option<f64>,
    /// The same of the adapted model.
    pub exact_match: Option<f64>,
    /// Numbers that training changed.
    pub trainable_parameters: usize,
    /// Time from start to end, evaluation included; sums up over resumed parts.
    pub seconds: f64,
    /// Labels learned from in a second of training.
    pub label_tokens_per_second: f64,
    /// Rows that were used, and those that were not.
    #[serde(default)]
    pub rows: RunRowCounts,
}
