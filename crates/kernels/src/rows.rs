//! What works on each row alone: norm, SwiGLU.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::backend;

/// Root-mean-square norm of the last dimension, times a weight.
///
/// Fused on CPUs where the weight is frozen: it has no gradient then. Anywhere else it is made of
/// tensor operations, in which a weight with autodiff has its gradient.
///
/// # Shapes
/// - `x` and output: `[..., width]`, f32
/// - `weight`: `[width]`, f32
///
/// Source: arXiv 1910.07467.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let device = weight.device();
    if backend::is_fused(&device) && !device.is_autodiff() {
        return backend::rms_norm(x, weight, epsilon);
    }
    let mean_square = x.clone().square().mean_dim(D - 1);
    x * (mean_square + epsilon).sqrt().recip() * weight.unsqueeze()
}

/// `silu(gate) * up`, where both come side by side from one product.
///
/// # Shapes
/// - `both`: `[n, 2 * width]`, gates first, f32
/// - output: `[n, width]`
///
/// Source: arXiv 2002.05202.
pub fn swiglu(both: Tensor<2>) -> Tensor<2> {
    if backend::is_fused(&both.device()) {
        return backend::swiglu(both);
    }
    let [_n, width] = both.dims();
    let gate = both.clone().narrow(1, 0, width / 2);
    silu(gate) * both.narrow(1, width / 2, width / 2)
}
