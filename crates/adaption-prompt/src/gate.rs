//! Zero-init gates of prompts: how many per layer, and their activation.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Number of gates per layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// One per layer, as in PEFT.
    Scalar,
    /// One per query head, as in the paper.
    #[serde(rename = "head")]
    PerHead,
}

impl Gate {
    /// Gates of one layer.
    pub(crate) fn count(self, n_heads: usize) -> usize {
        match self {
            Self::Scalar => 1,
            Self::PerHead => n_heads,
        }
    }
}

/// Activation of a gate. The result multiplies the output of the gated prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateActivation {
    /// None, as in PEFT and the paper.
    Identity,
    /// tanh, as in the original release's training code.
    Tanh,
}

impl GateActivation {
    /// The activation of one gate.
    pub fn apply(self, gate: f32) -> f32 {
        match self {
            Self::Identity => gate,
            Self::Tanh => gate.tanh(),
        }
    }
}

/// The gates of one layer as they act: after the activation, times the factor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerGates {
    /// Layer index.
    pub layer: usize,
    /// One value, or one per head.
    pub gates: Vec<f32>,
}

/// Gates after the activation, `[gates] -> [1, gates, 1, 1]`.
pub(crate) fn activate_gates(gate: &Tensor<1>, activation: GateActivation) -> Tensor<4> {
    let [gates] = gate.dims();
    let gate = gate.clone().reshape([1, gates, 1, 1]);
    match activation {
        GateActivation::Identity => gate,
        GateActivation::Tanh => gate.tanh(),
    }
}
