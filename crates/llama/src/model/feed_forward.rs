//! x ─┬─► gate ─► silu ─┐
//!    └─► up ───────── × ─► down        or, without a gate, x ─► up ─► gelu ─► down

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::gelu_approximate;
use kernels::{swiglu, swiglu_pair};

use super::activation::gelu;
use super::adapter_hooks::Adapter;
use super::linear::Linear;
use crate::config::{FeedForwardKind, LinearName};

/// Feed-forward network of a layer.
///
/// Source: arXiv 2002.05202, "SwiGLU"; arXiv 1606.08415, "GELU".
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `d_model -> d_ff`, before the activation; only in gated networks.
    pub gate: Option<Linear>,
    /// `d_model -> d_ff`.
    pub up: Linear,
    /// `d_ff -> d_model`.
    pub down: Linear,
    #[module(skip)]
    pub(crate) kind: FeedForwardKind,
}

impl FeedForward {
    /// `residual` plus the network's output for `hidden`.
    ///
    /// # Shapes
    /// - `residual`, `hidden` and output: `[batch, seq, d_model]`
    pub fn forward(
        &self,
        layer: usize,
        residual: Tensor<3>,
        hidden: Tensor<3>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let hidden = self.gated_hidden(layer, hidden, adapter);
        match adapter.linear(layer, LinearName::Down, &hidden, &self.down) {
            Some(adapted) => residual + adapted,
            None => self.down.forward_add(residual, hidden),
        }
    }

    /// Input of the down projection, `[batch, seq, d_ff]`.
    fn gated_hidden(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let adapted = |name, linear| adapter.linear(layer, name, &hidden, linear);
        let up = adapted(LinearName::Up, &self.up);
        let Some(gate) = &self.gate else {
            let up = up.unwrap_or_else(|| self.up.forward(hidden));
            return match self.kind {
                FeedForwardKind::GeluTanh => gelu_approximate(up),
                _ => gelu(up),
            };
        };
        let adapted = (adapted(LinearName::Gate, gate), up);
        if let (None, None) = &adapted
            && let Some(gate_and_up) = Linear::forward_concat(&[gate, &self.up], &hidden)
        {
            let [batch, seq, _d_model] = hidden.dims();
            let [d_ff, _d_model] = self.up.weight.dims();
            return swiglu(gate_and_up).reshape([batch, seq, d_ff]);
        }
        let gate = adapted.0.unwrap_or_else(|| gate.forward(hidden.clone()));
        let up = adapted.1.unwrap_or_else(|| self.up.forward(hidden));
        swiglu_pair(gate, up)
    }
}

#[cfg(test)]
mod tests {
    use super::super::adapter_hooks::NoAdapter;
    use super::*;

    fn forward_of_one(kind: FeedForwardKind) -> Tensor<3> {
        let one = || Linear::new(Tensor::from_floats([[1.0]], &testing::flex()), None);
        let gate = (kind == FeedForwardKind::SwiGlu).then(one);
        let feed_forward = FeedForward { gate, up: one(), down: one(), kind };
        let scalar = |value: f32| Tensor::from_floats([[[value]]], &testing::flex());
        feed_forward.forward(0, scalar(0.0), scalar(1.0), &NoAdapter)
    }

    #[test]
    fn each_kind_has_its_activation() {
        for (kind, expected) in [
            (FeedForwardKind::SwiGlu, 0.731_058_6),
            (FeedForwardKind::Gelu, 0.841_344_7),
            (FeedForwardKind::GeluTanh, 0.841_192),
        ] {
            let expected = Tensor::<3>::from_floats([[[expected]]], &testing::flex());
            testing::assert_close(&format!("{kind:?}"), forward_of_one(kind), expected, 1e-6);
        }
    }
}
