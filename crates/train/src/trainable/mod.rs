//! What training changes: an adapter, or the weights of a whole model.

mod fine_tuning_method;
mod parameter_visitor;
mod trainable_weights;

pub use fine_tuning_method::FineTuningMethod;
pub(crate) use parameter_visitor::{
    Parameter, ParameterVisitor, flatten, map_parameters, parameters, visit_parameters,
};
pub use trainable_weights::TrainableWeights;
