//! x ─┬─► gate ─► silu ─┐
//!    └─► up ───────── × ─► down        or, without a gate, x ─► up ─► gelu ─► down

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, silu};
use kernels::{is_fused, swiglu};

use crate::config::FeedForwardKind;
use crate::linear::{Linear, rows};
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

/// The Gaussian error linear unit.
///
/// Burn's own has the gradient of another function, its approximation by tanh, which is off by a
/// thousandth.
///
/// Source: arXiv 1606.08415.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let share = ((x.clone() / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5;
    x * share
}

impl FeedForward {
    /// `residual` plus what it makes of `hidden`.
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
        let inner = self.inner(layer, hidden, adapter);
        match adapter.linear(layer, LinearName::Down, &inner, &self.down) {
            Some(changed) => residual + changed,
            None => self.down.onto(residual, inner),
        }
    }

    /// `[batch, seq, d_ff]`
    fn inner(&self, layer: usize, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let change = |name, linear| adapter.linear(layer, name, &hidden, linear);
        let up = change(LinearName::Up, &self.up);
        let Some(gate) = &self.gate else {
            let up = up.unwrap_or_else(|| self.up.forward(hidden));
            return match self.kind {
                FeedForwardKind::GeluTanh => gelu_approximate(up),
                _ => gelu(up),
            };
        };
        let changed = (change(LinearName::Gate, gate), up);
        if let (None, None) = &changed
            && let Some(both) = Linear::together(&[gate, &self.up], &hidden)
        {
            let [batch, seq, _d_model] = hidden.dims();
            let [d_ff, _d_model] = self.up.weight.dims();
            return swiglu(both).reshape([batch, seq, d_ff]);
        }
        let gate = changed.0.unwrap_or_else(|| gate.forward(hidden.clone()));
        let up = changed.1.unwrap_or_else(|| self.up.forward(hidden));
        if !is_fused(&up.device()) {
            return silu(gate) * up;
        }
        let dims = up.dims();
        swiglu(Tensor::cat(vec![rows(gate), rows(up)], 1)).reshape(dims)
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
        let at = |value: f32| Tensor::from_floats([[[value]]], &testing::flex());
        feed_forward.forward(0, at(0.0), at(1.0), &NoAdapter)
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

    #[test]
    fn the_gradient_of_gelu_is_its_own() {
        let device = testing::flex().autodiff();
        let x = Tensor::<1>::from_floats([-1.0, 0.5, 1.0], &device).require_grad();
        let gradients = gelu(x.clone()).sum().backward();
        let gradient = x.grad(&gradients).expect("it has one");
        // P(x) + x p(x), by the normal distribution's tables.
        let device = testing::flex();
        let expected = Tensor::<1>::from_floats([-0.083_315_5, 0.867_495, 1.083_315_5], &device);
        testing::assert_close("gradient", gradient, expected, 1e-6);
    }
}
