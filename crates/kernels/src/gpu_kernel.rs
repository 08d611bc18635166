//! Which fused kernels of GPUs are in use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use burn::tensor::Device;

use crate::attention_params::AttentionDims;
use crate::backend::is_fused;
use crate::gpu;

/// An operation that has a fused kernel on GPUs, forward and backward. Without it, the operation is
/// composed of tensor operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GpuKernel {
    /// [`rms_norm`](crate::rms_norm).
    RmsNorm,
    /// [`swiglu`](crate::swiglu) and [`swiglu_pair`](crate::swiglu_pair).
    SwiGlu,
    /// [`attention`](crate::attention).
    Attention,
    /// [`dense_cross_entropy`](crate::dense_cross_entropy).
    CrossEntropy,
}

impl GpuKernel {
    /// All kernels.
    pub const ALL: [Self; 4] = [Self::RmsNorm, Self::SwiGlu, Self::Attention, Self::CrossEntropy];
}

/// Kernels that a thread launched.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Launches {
    /// All of them, Burn's included.
    pub all: usize,
    /// Those of this crate.
    pub fused: usize,
}

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Kernels that are wrong on a device.
static DISABLED: RwLock<Vec<(Device, GpuKernel)>> = RwLock::new(Vec::new());

/// Switches all fused kernels of GPUs on or off, in the whole process. Call it before models are
/// loaded. They are on by default.
pub fn enable_gpu_kernels(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Switches a kernel off on a device, in the whole process: for devices that compute it wrongly.
pub fn disable_gpu_kernel(device: &Device, kernel: GpuKernel) {
    let disabled = (device.clone().without_autodiff(), kernel);
    let mut all = DISABLED.write().unwrap_or_else(PoisonError::into_inner);
    if !all.contains(&disabled) {
        all.push(disabled);
    }
}

/// Returns whether an operation runs as a fused kernel on a GPU, with or without autodiff.
///
/// False on CPUs, in a build without a backend of GPUs, and for kernels that are switched off.
pub fn has_gpu_kernel(device: &Device, kernel: GpuKernel) -> bool {
    let device = device.clone().without_autodiff();
    if !ENABLED.load(Ordering::Relaxed) || !gpu::is_gpu(&device) {
        return false;
    }
    let all = DISABLED.read().unwrap_or_else(PoisonError::into_inner);
    !all.iter().any(|(other, disabled)| (other, *disabled) == (&device, kernel))
}

/// Returns whether [`attention`](crate::attention) runs on a device for heads of this kind: on fused
/// devices, and on GPUs that can run its kernel.
pub fn has_fused_attention(device: &Device, heads: AttentionDims) -> bool {
    let gpu = || {
        has_gpu_kernel(device, GpuKernel::Attention)
            && gpu::attention_fits(&device.clone().without_autodiff(), heads)
    };
    is_fused(device) || gpu()
}
