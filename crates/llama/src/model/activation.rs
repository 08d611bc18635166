//! GELU with its exact gradient.

use burn::tensor::Tensor;

/// The Gaussian error linear unit, `x * cdf(x)`.
///
/// Burn's `gelu` differentiates the tanh approximation instead, which is off by about a thousandth.
///
/// Source: arXiv 1606.08415.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cdf = ((x.clone() / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5;
    x * cdf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_gradient_is_exact() {
        let device = testing::flex().autodiff();
        let x = Tensor::<1>::from_floats([-1.0, 0.5, 1.0], &device).require_grad();
        let gradients = gelu(x.clone()).sum().backward();
        let gradient = x.grad(&gradients).expect("x requires a gradient");
        // P(x) + x p(x), from tables of the normal distribution.
        let device = testing::flex();
        let expected = Tensor::<1>::from_floats([-0.083_315_5, 0.867_495, 1.083_315_5], &device);
        testing::assert_close("gradient", gradient, expected, 1e-6);
    }
}
