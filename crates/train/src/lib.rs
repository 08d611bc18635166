//! Trains and evaluates LLaMA-Adapters.

mod batch;
mod checkpoint;
mod config;
mod error;
mod evaluate;
mod example;
mod instruction;
mod loss;
mod optimizer;
mod output;
mod run;
mod schedule;
pub mod template;
mod trainer;

pub use batch::{Batch, Order};
pub use checkpoint::CHECKPOINT_FILE;
pub use config::{Length, TrainConfig};
pub use error::{Error, Result};
pub use evaluate::{ExactMatch, LabelLoss, answer_rows, evaluate_loss, exact_match};
pub use example::{Example, Fitted};
pub use instruction::Instruction;
pub use loss::label_loss;
pub use optimizer::{AdapterGradients, AdapterOptimizer, OptimizerConfig};
pub use output::{METRICS_FILE, RUN_FILE};
pub use run::{Event, Job, Pace, Summary, split_rows};
pub use schedule::Schedule;
pub use trainer::{StepReport, Trainer};
