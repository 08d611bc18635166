//! x ─► x Wᵀ (+ bias). The weight has Hugging Face's layout, `[out, in]`.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use kernels::{PackedWeight, linears};

use super::weight::Weight;

/// A linear layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, in the model's run-time precision.
    pub weight: Weight,
    /// `[out]`, f32.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with the given weight and bias.
    pub fn new(weight: impl Into<Weight>, bias: Option<Tensor<1>>) -> Self {
        Self {
            weight: weight.into(),
            bias: bias.map(|bias| Param::from_tensor(bias.cast(DType::F32))),
        }
    }

    /// `input · Wᵀ + bias`, computed in the weight's precision, or in f32 if it is quantized.
    ///
    /// # Shapes
    /// - `input`: `[..., in]`, f32
    /// - output: `[..., out]`, f32
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let output = self.weight.matmul_transposed(input);
        match &self.bias {
            Some(bias) => output + bias.val().unsqueeze(),
            None => output,
        }
    }
}

impl Linear {
    /// [`forward`](Self::forward) plus `residual`, in one operation where that is fused.
    ///
    /// # Shapes
    /// - `residual` and output: `[batch, seq, out]`
    pub(crate) fn forward_add(&self, residual: Tensor<3>, input: Tensor<3>) -> Tensor<3> {
        let (Weight::Packed(weight), None) = (&self.weight, &self.bias) else {
            return residual + self.forward(input);
        };
        let dims = residual.dims();
        linears(flatten_batch(input), Some(flatten_batch(residual)), &[weight]).reshape(dims)
    }

    /// Concatenated outputs of several layers, computed as one GEMM; `None` unless the device is fused and
    /// all weights are packed.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - output: `[batch * seq, sum of all out]`
    pub(crate) fn forward_concat(layers: &[&Self], input: &Tensor<3>) -> Option<Tensor<2>> {
        let packed = |layer: &&Self| match &layer.weight {
            Weight::Packed(weight) if layer.weight.computes_rows_alone() => Some(weight.clone()),
            _ => None,
        };
        let weights = layers.iter().map(packed).collect::<Option<Vec<PackedWeight>>>()?;
        let input = flatten_batch(input.clone());
        let output = linears(input, None, &weights.iter().collect::<Vec<_>>());
        if layers.iter().all(|layer| layer.bias.is_none()) {
            return Some(output);
        }
        let bias = |layer: &&Self| match &layer.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([layer.weight.dims()[0]], &layer.weight.device()),
        };
        Some(output + Tensor::cat(layers.iter().map(bias).collect(), 0).unsqueeze())
    }
}

/// `[batch, seq, width] -> [batch * seq, width]`
pub(crate) fn flatten_batch(hidden: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = hidden.dims();
    hidden.reshape([batch * seq, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_by_the_transposed_weight_and_adds_the_bias() {
        for device in testing::devices() {
            let weight = Tensor::<2>::from_floats([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], &device);
            let bias = Tensor::<1>::from_floats([0.0, 10.0, 0.0], &device);
            let input = Tensor::<3>::from_floats([[[1.0, 1.0], [2.0, 0.0]]], &device);
            let expected = Tensor::<3>::from_floats([[[3.0, 9.0, 3.5], [2.0, 10.0, 6.0]]], &device);
            let output = Linear::new(weight, Some(bias)).forward(input);
            testing::assert_close("linear", output, expected, 1e-6);
        }
    }

    #[test]
    fn a_half_precision_weight_gives_f32() {
        let device = testing::flex();
        let weight = Tensor::<2>::from_floats([[1.0, 2.0]], &device).cast(DType::BF16);
        let input = Tensor::<2>::from_floats([[0.5, 0.25]], &device);
        let output = Linear::new(weight, None).forward(input);
        assert_eq!(output.dtype(), DType::F32);
        testing::assert_close("linear", output, Tensor::<2>::from_floats([[1.0]], &device), 1e-2);
    }
}
