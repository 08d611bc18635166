//! Operations on single rows: RMS norm and SwiGLU.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::gpu_kernel::{GpuKernel, has_gpu_kernel};
use crate::{backend, gpu};

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
    if !device.is_autodiff() {
        if backend::is_fused(&device) {
            return backend::rms_norm(x, weight, epsilon);
        }
        if has_gpu_kernel(&device, GpuKernel::RmsNorm) {
            return gpu::rms_norm(x, weight, epsilon);
        }
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
    let device = gate_up.device();
    if backend::is_fused(&device) {
        return backend::swiglu(gate_up);
    }
    if has_gpu_kernel(&device, GpuKernel::SwiGlu) {
        return gpu::swiglu(gate_up);
    }
    let [_n, width] = gate_up.dims();
    let gate = gate_up.clone().narrow(1, 0, width / 2);
    silu(gate) * gate_up.narrow(1, width / 2, width / 2)
}

/// `silu(gate) * up`. Runs on every device.
///
/// # Shapes
/// - `gate`, `up` and output: the same, f32
///
/// Source: arXiv 2002.05202.
pub fn swiglu_pair<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let device = up.device();
    if backend::is_fused(&device) {
        let dims = up.dims();
        let width = dims[D - 1];
        let rows = |x: Tensor<D>| x.reshape([dims.iter().product::<usize>() / width, width]);
        return backend::swiglu(Tensor::cat(vec![rows(gate), rows(up)], 1)).reshape(dims);
    }
    if has_gpu_kernel(&device, GpuKernel::SwiGlu) {
        return gpu::swiglu_pair(gate, up);
    }
    silu(gate) * up
}
