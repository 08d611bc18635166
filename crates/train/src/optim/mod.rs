//! Gradients, the optimizer and the learning rate.

mod learning_rate_schedule;
mod parameter_optimizer;

pub use learning_rate_schedule::LearningRateSchedule;
pub use parameter_optimizer::{ModuleGradients, OptimizerConfig, ParameterOptimizer};
