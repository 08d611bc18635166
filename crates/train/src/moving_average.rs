//! Exponential moving average of the trainable weights.

use burn::module::Module;

use crate::trainable::{Parameter, TrainableWeights, map_parameters, parameters};

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
        let steps = completed_steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        let mut parameters = parameters(weights).into_iter();
        self.weights = map_parameters(self.weights.clone(), &mut |average| {
            let Parameter { value, is_trainable, .. } =
                parameters.next().expect("the same parameters");
            // A frozen parameter stays exactly what it is.
            if is_trainable { average * decay + value * (1.0 - decay) } else { average }
        });
    }
}
