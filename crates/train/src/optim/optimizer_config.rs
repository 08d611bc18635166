//! Hyperparameters of AdamW.

use burn::optim::AdamWConfig;
use serde::{Deserialize, Serialize};

use super::adamw_state::ADAMW_STATE;
use super::erased_optimizer::WithStates;
use super::parameter_optimizer::ParameterOptimizer;

/// Hyperparameters of AdamW. The defaults are the original LLaMA-Adapter's, with PyTorch's epsilon.
///
/// Source: arXiv 1711.05101.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// Decay rate of the first moment.
    pub beta_1: f32,
    /// Decay rate of the second moment.
    pub beta_2: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay; each step subtracts this fraction of a weight times the learning rate.
    pub weight_decay: f32,
    /// Maximum norm of all gradients together; larger gradients are scaled down.
    #[serde(rename = "clip")]
    pub max_gradient_norm: Option<f64>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.02,
            max_gradient_norm: None,
        }
    }
}

impl OptimizerConfig {
    /// AdamW with these hyperparameters, at its first step.
    pub fn init(&self) -> ParameterOptimizer {
        let adamw = AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .build();
        ParameterOptimizer::from_erased(Box::new(WithStates::new(adamw, ADAMW_STATE)))
            .with_max_gradient_norm(self.max_gradient_norm)
    }
}
