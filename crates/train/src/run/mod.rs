//! A training run with its folder: evaluation, steps, checkpoints; resumable.

mod estimate;
mod events;
mod held_out;
mod kept_checkpoints;
mod learning_rate_curve;
mod learning_rate_test;
mod log;
mod process_memory;
mod progress;
mod rank_agreement;
mod run_folder;
mod run_record;
mod session;
mod training_run;

pub use crate::checkpoint::CHECKPOINT_FILE;
pub use estimate::RunEstimate;
pub use events::{Event, RunSummary, Throughput};
pub use kept_checkpoints::CHECKPOINTS_FOLDER;
pub use learning_rate_curve::{CURVE_CSV_FILE, CURVE_FILE, LearningRateCurve, LearningRatePoint};
pub use learning_rate_test::LearningRateTest;
pub use rank_agreement::{RankDifference, check_equal_facts};
pub use run_folder::METRICS_FILE;
pub use run_record::{RUN_FILE, SettingDifference, hash_rows};
pub use training_run::TrainingRun;
