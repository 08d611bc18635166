//! A memory plan: bytes by purpose.

use serde::Serialize;

/// Bytes in use at the peak, by purpose; their sum is the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct MemoryPlan {
    /// Weights of the frozen base.
    pub weights: u64,
    /// Trainable parameters; for a whole model a copy in addition to the base, for generation the
    /// adapter with its prompt K/V.
    pub adapter: u64,
    /// Gradients of the trainable parameters.
    pub gradients: u64,
    /// AdamW's two moments.
    pub optimizer: u64,
    /// Activations that the graph, or activation checkpointing, keeps from the forward pass.
    pub activations: u64,
    /// KV cache.
    pub cache: u64,
    /// Temporary tensors: intermediates of the widest layer, logits, gradients of activations,
    /// workspaces.
    pub working_set: u64,
}

impl MemoryPlan {
    /// The peak in bytes.
    pub fn total(&self) -> u64 {
        self.components().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The parts by name.
    pub fn components(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("cache", self.cache),
            ("working set", self.working_set),
        ]
    }
}
