//! Trains and evaluates adapters: records, batches, loss, optimizer, checkpoints.
//!
//! ```text
//! Instruction ─► Example ─► Batch ─► label_loss ─► ModuleGradients ─► Optimizer
//!                        Learner ────┴───────────── Trainer ──────┘
//!                                     TrainingRun: Trainer + evaluation + folder, resumable
//! ```
//!
//! [`Trainer`] is for programs that want each step in their own hands; [`TrainingRun`] does what
//! `llama-adapter train` does. Libraries print nothing: [`Event`]s tell what happens.
//! Steps do not wait for the device; [`Trainer::reports`] does, for all since it was last asked.
//! [`recompute()`] takes any adapter's gradients with one layer's graph in memory at a time.
//!
//! ```
//! use train::{Batch, Example};
//!
//! // Prompt tokens 5 and 6, then the answer 7 and the end token 2.
//! let row = Example { tokens: vec![5, 6, 7, 2], labels_from: 2, image: None };
//! let batch = Batch::new(&[&row]);
//! assert_eq!(batch.n_labels(), 2);
//! ```

pub mod activation_checkpointing;
mod checkpoint;
mod config;
mod data;
mod deterministic_sum;
mod error;
mod eval;
mod images;
mod json;
mod loss;
mod optim;
mod run;
mod trainable;
mod trainer;

pub use activation_checkpointing::{
    LayerwiseAdapter, checkpointed_adapter_backward, checkpointed_backward,
};
pub use checkpoint::CHECKPOINT_FILE;
pub use config::{TrainConfig, TrainLength};
pub use data::read::{
    DropReason, EmptyOutputPolicy, LoadedRows, Occurrences, ReadOptions, RowAdjustment, RowCounts,
    RowReport, RunRowCounts, SCIENCE_QA_TAGS, ScienceQa, parse_rows, read_rows,
};
pub use data::{
    Batch, Example, ExampleSampler, ImageRef, Instruction, TruncationCounts, split_rows, template,
};
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use eval::{
    Accuracy, ChoiceScoring, ConfusionMatrix, ExactMatch, LabelLoss, PairedDifference,
    accuracy_by_tag, clusters_by_image, correct_choices, evaluate_loss, exact_match,
    generate_responses, global_majority_baseline, majority_baseline, parse_choice, predict_choices,
};
pub use images::{
    BatchAdapter, BrokenImage, FeatureStatistics, ImageFeatureCache, MultimodalAdapter,
};
pub use loss::label_loss;
pub use optim::{LearningRateSchedule, ModuleGradients, OptimizerConfig, ParameterOptimizer};
pub use run::{Event, METRICS_FILE, RUN_FILE, RunSummary, Throughput, TrainingRun};
pub use trainable::{FineTuningMethod, ParameterGroup, TrainableWeights};
pub use trainer::{StepReport, Trainer};
