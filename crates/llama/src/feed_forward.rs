//! x ─┬─► gate ─► silu ─┐
//!    └─► up ───────── × ─► down

use burn::module::Module;
use burn::tensor::{Tensor, activation::silu};

use crate::linear::Linear;
use crate::seam::{Adapter, LinearName};

/// The gated feed-forward of a layer.
///
/// Source: arXiv 2002.05202, "SwiGLU".
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `d_model -> d_ff`, through the activation.
    pub gate: Linear,
    /// `d_model -> d_ff`.
    pub up: Linear,
    /// `d_ff -> d_model`.
    pub down: Linear,
}

impl FeedForward {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub fn forward(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let gate = adapter.linear(layer, LinearName::Gate, hidden.clone(), &self.gate);
        let up = adapter.linear(layer, LinearName::Up, hidden, &self.up);
        adapter.linear(layer, LinearName::Down, silu(gate) * up, &self.down)
    }
}
