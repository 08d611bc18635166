//! Trains and evaluates LLaMA-Adapters.

mod batch;
mod checkpoint;
mod error;
mod evaluate;
mod example;
mod instruction;
mod loss;
mod optimizer;
mod schedule;
pub mod template;
mod trainer;

pub use batch::{Batch, Order};
pub use checkpoint::CHECKPOINT_FILE;
pub use error::{Error, Result};
pub use evaluate::{ExactMatch, LabelLoss, answer_rows, evaluate_loss, exact_match};
pub use example::{Example, Fitted};
pub use instruction::Instruction;
pub use loss::label_loss;
pub use optimizer::{AdapterGradients, AdapterOptimizer, OptimizerConfig};
pub use schedule::Schedule;
pub use trainer::{StepReport, Trainer};
