//! A training run with its folder: evaluation, steps, checkpoints; resumable.

mod events;
mod log;
mod process_memory;
mod progress;
mod run_folder;
mod run_record;
mod training_run;

pub use crate::checkpoint::CHECKPOINT_FILE;
pub use events::{Event, RunSummary, Throughput};
pub use run_folder::METRICS_FILE;
pub use run_record::RUN_FILE;
pub use training_run::TrainingRun;
