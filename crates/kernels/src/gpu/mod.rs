//! Fused operations on GPUs: kernels in CubeCL as an extension of Burn's CubeCL backend, each with
//! its own backward pass.
//!
//! ```text
//! Tensor ─► Dispatch ─┬─► Cube ───────────► a kernel, one launch          ops.rs, rms_norm.rs, ...
//!                     └─► Autodiff<Cube> ─► the same, and a backward node  backward.rs
//! ```
//!
//! One source serves every runtime of CubeCL: wgpu (WGSL, SPIR-V, Metal), CUDA and ROCm. Kernels make
//! no assumption about the size of a plane. All sums are in f32 and in a fixed order, without atomics:
//! the same input gives the same result.

#![allow(clippy::too_many_arguments, reason = "kernels take their buffers and sizes one by one")]
#![allow(
    clippy::too_many_lines,
    reason = "a kernel's registers and shared memory belong to one function"
)]
#![allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "arrays of a kernel are not what they seem to Rust"
)]
#![allow(clippy::used_underscore_binding, reason = "arguments that only name an element type")]

mod attention;
mod backward;
mod cross_entropy;
mod cube_sum;
mod launch;
mod ops;
mod rms_norm;
mod swiglu;
mod tensors;

use std::sync::Arc;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{Device, Int, Tensor};
use burn_cubecl::CubeDevice;

use crate::attention_params::{AttentionDims, AttentionParams};
pub use launch::count_launches;
use ops::{GpuOps, GpuPrompt};

/// Whether a device, without autodiff, is one of CubeCL's GPUs, whose tensors the kernels know.
pub(crate) fn is_gpu(device: &Device) -> bool {
    gpu(device).is_some()
}

/// Whether a GPU, without autodiff, can run the attention of these heads.
pub(crate) fn attention_fits(device: &Device, heads: AttentionDims) -> bool {
    gpu(device).is_some_and(|device| attention::fits(device, heads))
}

fn gpu(device: &Device) -> Option<&CubeDevice> {
    match device.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Cpu(_)) => None,
        DispatchDevice::Cube(device) => Some(device).filter(|_| tensors::is_unfused_backend()),
        #[allow(unreachable_patterns, reason = "builds of one backend")]
        _ => None,
    }
}

pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as GpuOps>::gpu_rms_norm(x, weight, epsilon as f32))
}

pub(crate) fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GpuOps>::gpu_swiglu(gate_up.into_dispatch()))
}

pub(crate) fn swiglu_pair<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as GpuOps>::gpu_swiglu_pair(gate, up))
}

pub(crate) fn attention(
    qkv: Tensor<2>,
    prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    params: Arc<AttentionParams>,
) -> Tensor<2> {
    let prompt = match prompt {
        Some((key, value, gate)) => GpuPrompt::Some {
            key: key.into_dispatch(),
            value: value.into_dispatch(),
            gate: gate.into_dispatch(),
        },
        None => GpuPrompt::None,
    };
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as GpuOps>::gpu_attention(qkv, prompt, params))
}

pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    labels: Tensor<1, Int>,
) -> Tensor<1> {
    let (hidden, head) = (hidden.into_dispatch(), head.into_dispatch());
    let labels = labels.into_dispatch();
    Tensor::from_dispatch(<Dispatch as GpuOps>::gpu_cross_entropy(hidden, head, labels))
}
