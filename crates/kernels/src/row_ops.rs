//! Operations on single rows: RMS norm and SwiGLU.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::backend;

/// Root-mean-square norm of the last dimension, multiplied by a weight.
///
/// Fused if the device is and the weight is frozen (not on an autodiff device); a frozen weight has
/// no gradient. Otherwise composed of tensor operations, with a gradient for a tracked weight.
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

/// `silu(gate) * up` of concatenated gate and up projections. Runs on every device.
///
/// # Shapes
/// - `gate_up`: `[n, 2 * width]`, gates first, f32
/// - output: `[n, width]`
///
/// Source: arXiv 2002.05202.
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    if backend::is_fused(&gate_up.device()) {
        return backend::swiglu(gate_up);
    }
    let [_n, width] = gate_up.dims();
    let gate = gate_up.clone().narrow(1, 0, width / 2);
    silu(gate) * gate_up.narrow(1, width / 2, width / 2)
}
