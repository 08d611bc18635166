//! x ─► (minus its mean ─►) divided by its root mean square ─► × weight (─► + bias). Always in f32.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use kernels::{is_fused, rms_norm};
use serde::{Deserialize, Serialize};

use crate::config::NormKind;

/// A norm of the model. The norms of single queries and keys are no part of the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormName {
    /// Before the attention.
    Attention,
    /// Before the feed-forward.
    FeedForward,
    /// Behind the last layer. Its layer is the number of layers.
    Final,
}

/// What a norm multiplies by, and adds, instead of its own.
#[derive(Debug, Clone)]
pub struct NormWeights {
    /// `[batch or 1, 1, d_model]`
    pub weight: Tensor<3>,
    /// `[batch or 1, 1, d_model]`, for norms that have one.
    pub bias: Option<Tensor<3>>,
}

/// Root-mean-square norm, or layer norm.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[d_model]`, f32.
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, f32, in layer norms.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    epsilon: f64,
}

impl Norm {
    /// A norm with the given weight and bias, kept in f32.
    pub fn new(kind: NormKind, weight: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Self {
        let keep = |tensor: Tensor<1>| Param::from_tensor(tensor.cast(DType::F32));
        Self { weight: keep(weight), bias: bias.map(keep), kind, epsilon }
    }

    /// Its own weights, as an adapter's would be.
    pub fn weights(&self) -> NormWeights {
        let (weight, bias) = self.own();
        NormWeights { weight, bias }
    }

    /// Normalizes the last dimension.
    ///
    /// `instead` replaces the norm's own weight and bias, where an adapter brings them.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, f32
    /// - output: the same
    ///
    /// Source: arXiv 1910.07467, arXiv 1607.06450.
    pub fn forward(&self, hidden: Tensor<3>, instead: Option<NormWeights>) -> Tensor<3> {
        match instead {
            Some(NormWeights { weight, bias }) => {
                let device = hidden.device().without_autodiff();
                let unit = if self.kind == NormKind::Rms && is_fused(&device) {
                    // The numbers of the norm's own operation, to the last bit.
                    let ones = Tensor::ones(self.weight.val().dims(), &device);
                    rms_norm(hidden, ones, self.epsilon)
                } else {
                    self.unit(hidden)
                };
                scaled(unit, weight, bias)
            }
            None => self.last_dimension(hidden),
        }
    }

    /// As [`forward`](Self::forward), for `[batch, heads, seq, head_dim]`: each head by itself.
    pub(crate) fn heads(&self, heads: Tensor<4>) -> Tensor<4> {
        self.last_dimension(heads)
    }

    fn last_dimension<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        if self.kind == NormKind::Rms && self.bias.is_none() {
            return rms_norm(hidden, self.weight.val(), self.epsilon);
        }
        let (weight, bias) = self.own();
        scaled(self.unit(hidden), weight, bias)
    }

    fn own<const D: usize>(&self) -> (Tensor<D>, Option<Tensor<D>>) {
        (self.weight.val().unsqueeze(), self.bias.as_ref().map(|bias| bias.val().unsqueeze()))
    }

    /// The last dimension with a mean square of one.
    fn unit<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let hidden = match self.kind {
            NormKind::Rms => hidden,
            NormKind::Layer => hidden.clone() - hidden.mean_dim(D - 1),
        };
        let mean_square = hidden.clone().square().mean_dim(D - 1);
        hidden * (mean_square + self.epsilon).sqrt().recip()
    }
}

fn scaled<const D: usize>(
    unit: Tensor<D>,
    weight: Tensor<D>,
    bias: Option<Tensor<D>>,
) -> Tensor<D> {
    let output = unit * weight;
    match bias {
        Some(bias) => output + bias,
        None => output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_divided_by_its_root_mean_square() {
        for device in testing::devices() {
            let norm = Norm::new(NormKind::Rms, Tensor::ones([2], &device), None, 1e-12);
            let hidden = Tensor::<3>::from_floats([[[3.0, 4.0]]], &device);
            // Root mean square of (3, 4) is sqrt(12.5).
            let expected = Tensor::<3>::from_floats([[[0.848_528, 1.131_371]]], &device);
            testing::assert_close("norm", norm.forward(hidden, None), expected, 1e-5);
        }
    }

    #[test]
    fn a_layer_norm_takes_the_mean_away_and_adds_its_bias() {
        for device in testing::devices() {
            let weight = Tensor::from_floats([2.0, 1.0], &device);
            let bias = Tensor::from_floats([0.0, 0.5], &device);
            let norm = Norm::new(NormKind::Layer, weight, Some(bias), 1e-12);
            let hidden = Tensor::<3>::from_floats([[[3.0, 7.0]]], &device);
            let expected = Tensor::<3>::from_floats([[[-2.0, 1.5]]], &device);
            testing::assert_close("norm", norm.forward(hidden, None), expected, 1e-5);
        }
    }

    #[test]
    fn another_weight_replaces_its_own() {
        for device in testing::devices() {
            let norm = Norm::new(NormKind::Rms, Tensor::ones([2], &device), None, 1e-12);
            let hidden = Tensor::<3>::from_floats([[[1.0, -1.0]]], &device);
            let weight = Tensor::<3>::from_floats([[[2.0, 3.0]]], &device);
            let bias = Some(Tensor::from_floats([[[0.0, 0.5]]], &device));
            let expected = Tensor::<3>::from_floats([[[2.0, -2.5]]], &device);
            let output = norm.forward(hidden, Some(NormWeights { weight, bias }));
            testing::assert_close("norm", output, expected, 1e-5);
        }
    }
}
