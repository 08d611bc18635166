//! What training changes: an adapter or a whole model.

mod parameter_group;
mod parameter_visitor;
mod trainable_weights;

pub use parameter_group::ParameterGroup;
pub(crate) use parameter_visitor::{ParameterVisitor, flatten, map_parameters, visit_parameters};
pub use trainable_weights::{FineTuningMethod, TrainableWeights};
