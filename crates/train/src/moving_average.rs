//! Exponential moving average of the trainable weights.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::trainable::{
    ParameterVisitor, TrainableWeights, flatten, map_parameters, visit_parameters,
};

/// The moving average of the weights after each step.
///
/// `average = decay * average + (1 - decay) * weights`. In the first steps the decay is smaller,
/// `(1 + steps) / (10 + steps)`, so that the initial weights are forgotten.
///
/// Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`.
#[derive(Debug, Clone)]
pub(crate) struct MovingAverage {
    decay: f64,
    /// On a plain device.
    pub(crate) weights: TrainableWeights,
}

impl MovingAverage {
    /// An average before the first step.
    pub fn new(decay: f64, weights: &TrainableWeights) -> Self {
        Self { decay, weights: weights.valid() }
    }

    /// Adds the weights after `completed_steps`. Does not synchronize with the device.
    pub fn update(&mut self, weights: &TrainableWeights, completed_steps: usize) {
        struct CollectValues(Vec<(Tensor<1>, bool)>);
        impl ParameterVisitor for CollectValues {
            fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                let is_trainable = value.device().is_autodiff();
                self.0.push((flatten(value.inner()), is_trainable));
            }
        }
        let steps = completed_steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        let mut values = CollectValues(Vec::new());
        visit_parameters(weights, &mut values);
        let mut values = values.0.into_iter();
        self.weights = map_parameters(self.weights.clone(), &mut |average| {
            let (value, is_trainable) = values.next().expect("the same parameters");
            // A frozen parameter stays exactly what it is.
            if is_trainable { average * decay + value * (1.0 - decay) } else { average }
        });
    }
}
