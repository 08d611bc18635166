//! RMS norm and layer norm, always in f32: x ─► (- mean ─►) / root mean square ─► × weight (─► + bias).

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use kernels::{GpuKernel, has_gpu_kernel, is_fused, rms_norm};
use serde::{Deserialize, Serialize};

use crate::config::NormKind;

/// A norm that adapters can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormName {
    /// Norm before the attention.
    Attention,
    /// Norm before the feed-forward network.
    FeedForward,
    /// Norm after the last layer. Its layer is the number of layers.
    Final,
}

/// Weight and bias that replace those of a norm.
#[derive(Debug, Clone)]
pub struct NormWeights {
    /// `[batch or 1, seq or 1, d_model]`
    pub weight: Tensor<3>,
    /// `[batch or 1, seq or 1, d_model]`, if the norm has a bias.
    pub bias: Option<Tensor<3>>,
}

/// RMS norm or layer norm.
#[derive(Module, Debug)]
pub struct Norm {
    /// `[d_model]`, f32.
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, f32; only in layer norms.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    epsilon: f64,
}

impl Norm {
    /// A norm with the given weight and bias, converted to f32.
    pub fn new(kind: NormKind, weight: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Self {
        let f32_parameter = |tensor: Tensor<1>| Param::from_tensor(tensor.cast(DType::F32));
        Self { weight: f32_parameter(weight), bias: bias.map(f32_parameter), kind, epsilon }
    }

    /// The norm's weights in the form of an override.
    pub fn weights(&self) -> NormWeights {
        let (weight, bias) = self.own_weights();
        NormWeights { weight, bias }
    }

    /// Normalizes the last dimension.
    ///
    /// `weight_override` replaces the norm's weight and bias.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, f32
    /// - output: the same
    ///
    /// Source: arXiv 1910.07467, arXiv 1607.06450.
    pub fn forward(&self, hidden: Tensor<3>, weight_override: Option<NormWeights>) -> Tensor<3> {
        match weight_override {
            Some(NormWeights { weight, bias }) => {
                let device = hidden.device().without_autodiff();
                let has_kernel = is_fused(&device) || has_gpu_kernel(&device, GpuKernel::RmsNorm);
                let normalized = if self.kind == NormKind::Rms && has_kernel {
                    // The fused kernel, so that equal weights give bit-identical results.
                    let ones = Tensor::ones(self.weight.val().dims(), &device);
                    rms_norm(hidden, ones, self.epsilon)
                } else {
                    self.normalize(hidden)
                };
                scale_and_shift(normalized, weight, bias)
            }
            None => self.forward_nd(hidden),
        }
    }

    /// As [`forward`](Self::forward), for `[batch, heads, seq, head_dim]`: each head separately.
    pub(crate) fn forward_heads(&self, heads: Tensor<4>) -> Tensor<4> {
        self.forward_nd(heads)
    }

    fn forward_nd<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        if self.kind == NormKind::Rms && self.bias.is_none() {
            return rms_norm(hidden, self.weight.val(), self.epsilon);
        }
        let (weight, bias) = self.own_weights();
        scale_and_shift(self.normalize(hidden), weight, bias)
    }

    fn own_weights<const D: usize>(&self) -> (Tensor<D>, Option<Tensor<D>>) {
        (self.weight.val().unsqueeze(), self.bias.as_ref().map(|bias| bias.val().unsqueeze()))
    }

    /// Scales the last dimension to a mean square of one; layer norms subtract the mean first.
    fn normalize<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let hidden = match self.kind {
            NormKind::Rms => hidden,
            NormKind::Layer => hidden.clone() - hidden.mean_dim(D - 1),
        };
        let mean_square = hidden.clone().square().mean_dim(D - 1);
        hidden * (mean_square + self.epsilon).sqrt().recip()
    }
}

fn scale_and_shift<const D: usize>(
    normalized: Tensor<D>,
    weight: Tensor<D>,
    bias: Option<Tensor<D>>,
) -> Tensor<D> {
    let output = normalized * weight;
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
    fn layer_norm_subtracts_the_mean_and_adds_the_bias() {
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
    fn weight_override_replaces_the_weights() {
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
