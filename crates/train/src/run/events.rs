//! The events of a run, and its summary.

use std::path::PathBuf;

use adaption_prompt::LayerGates;
use eval::Accuracy;
use serde::{Deserialize, Serialize};

use crate::data::{RunRowCounts, TruncationCounts};
use crate::eval::LabelLoss;
use crate::prefix_cache::PrefixCacheDecision;
use crate::trainer::{StepReport, WorkDivision};

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The rows were tokenized.
    Prepared {
        /// Training examples.
        train: TruncationCounts,
        /// Held-out examples.
        eval: TruncationCounts,
        /// Steps of the whole run.
        total_steps: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Number of trainable parameters.
        trainable_parameters: usize,
    },
    /// A checkpoint was loaded.
    Resumed {
        /// Completed steps.
        step: usize,
    },
    /// It was decided whether the hidden states below the first adapted layer are cached.
    PrefixCache(PrefixCacheDecision),
    /// Some held-out rows were evaluated.
    Evaluating {
        /// Evaluated rows.
        done: usize,
        /// All rows of the evaluation.
        rows: usize,
    },
    /// An evaluation is complete.
    Evaluated {
        /// Completed steps.
        step: usize,
        /// Held-out loss.
        loss: LabelLoss,
        /// Exact match, if requested.
        exact_match: Option<Accuracy>,
    },
    /// A step is complete.
    Stepped(StepReport, Throughput),
    /// The gates after a step, at most a hundred times in a run. Methods without gates have none.
    Gates {
        /// Completed steps.
        step: usize,
        /// From the lowest adapted layer to the highest.
        layers: Vec<LayerGates>,
    },
    /// A step was skipped, because its loss or a gradient is NaN or infinite.
    Skipped {
        /// The step; it counts as a completed one.
        report: StepReport,
        /// Number of skipped steps in a row, this one included.
        in_a_row: usize,
    },
    /// A step of a learning-rate range test is complete.
    Tested {
        /// Completed steps.
        step: usize,
        /// Steps of the test, unless the loss diverges before.
        steps: usize,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Loss of the step; NaN or infinite if it diverged.
        loss: f64,
    },
    /// The training ends before its last step, because the held-out loss has not improved.
    StoppedEarly {
        /// Completed steps.
        step: usize,
        /// Completed steps at the lowest held-out loss.
        best_step: usize,
    },
    /// The saved adapter was evaluated, because evaluations chose it.
    ResultEvaluated {
        /// Completed steps of the adapter.
        step: usize,
        /// Held-out loss.
        loss: LabelLoss,
        /// Exact match, if requested.
        exact_match: Option<Accuracy>,
    },
    /// A checkpoint was saved.
    Saved {
        /// Completed steps.
        step: usize,
    },
}

/// The speed of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Throughput {
    /// Labels per second of training, over all steps so far.
    pub label_tokens_per_second: f64,
    /// Remaining steps.
    pub steps_left: usize,
    /// Mean duration of a step in seconds.
    pub seconds_per_step: f64,
}

/// The result of a run, which `llama-adapter train` prints as its last line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// Folder of the adapter.
    #[serde(serialize_with = "crate::json::serialize_path")]
    pub output: PathBuf,
    /// Completed steps.
    pub steps: usize,
    /// Whether the training ended before its last step, because the held-out loss did not improve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped_early: bool,
    /// Completed steps of the saved adapter, if the best one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_step: Option<usize>,
    /// Mean loss of a label over the steps of the last epoch, at most 1000.
    pub train_loss: f64,
    /// Held-out loss of the base model.
    pub eval_loss_before: Option<f64>,
    /// Held-out loss of the saved adapter.
    pub eval_loss: Option<f64>,
    /// Fraction of held-out rows that the base model answers with an exact match.
    pub exact_match_before: Option<f64>,
    /// The same fraction for the saved adapter.
    pub exact_match: Option<f64>,
    /// Number of trainable parameters.
    pub trainable_parameters: usize,
    /// Duration in seconds, evaluation and earlier parts of a resumed run included.
    pub seconds: f64,
    /// Labels per second of training.
    pub label_tokens_per_second: f64,
    /// Number of steps that were skipped, because the loss or a gradient was NaN or infinite.
    #[serde(default)]
    pub skipped_steps: usize,
    /// How many rows were used, truncated and dropped.
    #[serde(default)]
    pub rows: RunRowCounts,
    /// How the work was divided, if there were several ranks.
    #[serde(default, rename = "ranks", skip_serializing_if = "Option::is_none")]
    pub division: Option<WorkDivision>,
}
