//! x ─┬─► gate ─► silu ─┐
//!    └─► up ───────── × ─► down        or, without a gate, x ─► up ─► gelu ─► down

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, gelu_approximate, silu};

use crate::config::FeedForwardKind;
use crate::linear::Linear;
use crate::seam::{Adapter, LinearName};

/// The feed-forward of a layer.
///
/// Source: arXiv 2002.05202, "SwiGLU"; arXiv 1606.08415, "GELU".
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `d_model -> d_ff`, through the activation; only where there is a gate.
    pub gate: Option<Linear>,
    /// `d_model -> d_ff`.
    pub up: Linear,
    /// `d_ff -> d_model`.
    pub down: Linear,
    #[module(skip)]
    pub(crate) kind: FeedForwardKind,
}

impl FeedForward {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub fn forward(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let gate = self
            .gate
            .as_ref()
            .map(|gate| adapter.linear(layer, LinearName::Gate, hidden.clone(), gate));
        let up = adapter.linear(layer, LinearName::Up, hidden, &self.up);
        let inner = match (gate, self.kind) {
            (Some(gate), _) => silu(gate) * up,
            (None, FeedForwardKind::GeluTanh) => gelu_approximate(up),
            (None, _) => gelu(up),
        };
        adapter.linear(layer, LinearName::Down, inner, &self.down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::NoAdapter;

    fn at_one(kind: FeedForwardKind) -> Tensor<3> {
        let one = || Linear::new(Tensor::from_floats([[1.0]], &testing::flex()), None);
        let gate = (kind == FeedForwardKind::SwiGlu).then(one);
        let feed_forward = FeedForward { gate, up: one(), down: one(), kind };
        feed_forward.forward(0, Tensor::from_floats([[[1.0]]], &testing::flex()), &NoAdapter)
    }

    #[test]
    fn each_kind_has_its_activation() {
        for (kind, expected) in [
            (FeedForwardKind::SwiGlu, 0.731_058_6),
            (FeedForwardKind::Gelu, 0.841_344_7),
            (FeedForwardKind::GeluTanh, 0.841_192),
        ] {
            let expected = Tensor::<3>::from_floats([[[expected]]], &testing::flex());
            testing::assert_close(&format!("{kind:?}"), at_one(kind), expected, 1e-6);
        }
    }
}
