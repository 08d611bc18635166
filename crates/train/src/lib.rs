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
//! [`device_check`] tells whether a device computes rightly.
//!
//! ```
//! use train::{Batch, Example};
//!
//! // Prompt tokens 5 and 6, then the answer 7 and the end token 2.
//! let row = Example { tokens: vec![5, 6, 7, 2], labels_from: 2, image: None };
//! let batch = Batch::new(&[&row]);
//! assert_eq!(batch.n_labels(), 2);
//! ```

mod accuracy;
mod answer_choice;
mod baseline;
mod batch;
mod checkpoint;
mod choice;
mod config;
mod confusion;
mod data;
pub mod device_check;
mod difference;
mod error;
mod evaluate;
mod events;
mod exact;
mod example;
mod feed;
mod fields;
mod image_ref;
mod instruction;
mod learner;
mod loss;
mod lossy;
mod optimizer;
mod origin;
mod output;
mod params;
mod pictures;
mod plan;
mod progress;
mod recompute;
mod records;
mod row_counts;
mod row_report;
mod rows;
mod run;
mod schedule;
mod settings;
mod split;
mod sum;
pub mod template;
mod trainer;

pub use accuracy::{Accuracy, accuracy_by_tag};
/// Parameter groups of an adapter.
pub use adaption_prompt::PartKind;
pub use answer_choice::parse_choice;
pub use baseline::{global_majority_baseline, majority_baseline};
pub use batch::{Batch, ExampleSampler};
pub use checkpoint::CHECKPOINT_FILE;
pub use choice::{ChoiceScoring, correct_choices, predict_choices};
pub use config::{TrainConfig, TrainLength};
pub use confusion::ConfusionMatrix;
pub use data::{SCIENCE_QA_TAGS, ScienceQa, parse_rows, read_rows};
pub use diagnostic::{Advice, Diagnostic};
pub use difference::{PairedDifference, clusters_by_image};
pub use error::{Error, Result};
pub use evaluate::{ExactMatch, LabelLoss, evaluate_loss, exact_match, generate_responses};
pub use events::{Event, RunSummary, Throughput};
pub use example::{Example, TruncationCounts};
pub use image_ref::ImageRef;
pub use instruction::Instruction;
pub use learner::{FineTuningMethod, TrainableWeights};
pub use loss::label_loss;
pub use optimizer::{ModuleGradients, OptimizerConfig, ParameterOptimizer};
pub use output::{METRICS_FILE, RUN_FILE};
pub use pictures::{
    BatchAdapter, BrokenImage, FeatureStatistics, ImageFeatureCache, MultimodalAdapter,
};
pub use plan::{
    DeviceTraits, MemoryPlan, MemorySaving, SettingChange, Workload, WorkloadKind, memory_savings,
};
pub use recompute::{LayerwiseAdapter, checkpointed_adapter_backward, checkpointed_backward};
pub use row_counts::{RowCounts, RunRowCounts};
pub use row_report::{DropReason, Occurrences, RowAdjustment, RowReport};
pub use rows::{EmptyOutputPolicy, LoadedRows, ReadOptions};
pub use run::TrainingRun;
pub use schedule::LearningRateSchedule;
pub use split::split_rows;
pub use trainer::{StepReport, Trainer};
