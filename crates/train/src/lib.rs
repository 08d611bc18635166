//! Trains and evaluates LLaMA-Adapters.

mod batch;
mod error;
mod example;
mod instruction;
mod loss;
mod optimizer;
mod schedule;
pub mod template;

pub use batch::{Batch, Order};
pub use error::{Error, Result};
pub use example::{Example, Fitted};
pub use instruction::Instruction;
pub use loss::label_loss;
pub use optimizer::{AdapterGradients, AdapterOptimizer, OptimizerConfig};
pub use schedule::Schedule;
