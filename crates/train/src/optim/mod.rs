//! Gradients, optimizer state and the learning rate.

mod adamw_state;
mod erased_optimizer;
mod group_learning_rates;
mod learning_rate_schedule;
mod module_gradients;
mod optimizer_config;
mod parameter_optimizer;
mod parameter_state;

pub use group_learning_rates::GroupLearningRates;
pub use learning_rate_schedule::{LearningRateDecay, LearningRateSchedule};
pub use module_gradients::ModuleGradients;
pub use optimizer_config::OptimizerConfig;
pub use parameter_optimizer::ParameterOptimizer;
pub(crate) use parameter_state::{ParameterInfo, ParameterState, StateTensor};
