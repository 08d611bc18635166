//! x ─► divided by its root mean square ─► × weight. Always in f32.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use crate::seam::NormWeights;

/// Root-mean-square norm.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[d_model]`, f32.
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// A norm with the given weight, kept in f32.
    pub fn new(weight: Tensor<1>, epsilon: f64) -> Self {
        Self { weight: Param::from_tensor(weight.cast(DType::F32)), epsilon }
    }

    /// Its own weights, as an adapter's would be.
    pub fn weights(&self) -> NormWeights {
        NormWeights { weight: self.weight.val().unsqueeze(), bias: None }
    }

    /// Normalises the last dimension.
    ///
    /// `instead` replaces the norm's own weight, where an adapter brings one.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, f32
    /// - output: the same
    ///
    /// Source: arXiv 1910.07467.
    pub fn forward(&self, hidden: Tensor<3>, instead: Option<NormWeights>) -> Tensor<3> {
        let mean_square = hidden.clone().square().mean_dim(2);
        let scale = (mean_square + self.epsilon).sqrt().recip();
        let NormWeights { weight, bias } = instead.unwrap_or_else(|| self.weights());
        let output = hidden * scale * weight;
        match bias {
            Some(bias) => output + bias,
            None => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_divided_by_its_root_mean_square() {
        for device in testing::devices() {
            let norm = RmsNorm::new(Tensor::ones([2], &device), 1e-12);
            let hidden = Tensor::<3>::from_floats([[[3.0, 4.0]]], &device);
            // Root mean square of (3, 4) is sqrt(12.5).
            let expected = Tensor::<3>::from_floats([[[0.848_528, 1.131_371]]], &device);
            testing::assert_close("norm", norm.forward(hidden, None), expected, 1e-5);
        }
    }

    #[test]
    fn another_weight_replaces_its_own() {
        for device in testing::devices() {
            let norm = RmsNorm::new(Tensor::ones([2], &device), 1e-12);
            let hidden = Tensor::<3>::from_floats([[[1.0, -1.0]]], &device);
            let weight = Tensor::<3>::from_floats([[[2.0, 3.0]]], &device);
            let bias = Some(Tensor::from_floats([[[0.0, 0.5]]], &device));
            let expected = Tensor::<3>::from_floats([[[2.0, -2.5]]], &device);
            let output = norm.forward(hidden, Some(NormWeights { weight, bias }));
            testing::assert_close("norm", output, expected, 1e-5);
        }
    }
}
