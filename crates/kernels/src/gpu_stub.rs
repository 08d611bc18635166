//! Stand-ins for the operations of GPUs in a build without a backend of CubeCL. No device has them
//! then, so they are never called.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use crate::attention_params::{AttentionDims, AttentionParams};
use crate::gpu_kernel::Launches;

const UNAVAILABLE: &str = "no device of this build has kernels of GPUs";

pub(crate) fn is_gpu(_device: &Device) -> bool {
    false
}

pub(crate) fn attention_fits(_device: &Device, _heads: AttentionDims) -> bool {
    false
}

pub(crate) fn rms_norm<const D: usize>(
    _x: Tensor<D>,
    _weight: Tensor<1>,
    _epsilon: f64,
) -> Tensor<D> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn swiglu(_gate_up: Tensor<2>) -> Tensor<2> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn swiglu_pair<const D: usize>(_gate: Tensor<D>, _up: Tensor<D>) -> Tensor<D> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn attention(
    _qkv: Tensor<2>,
    _prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    _params: Arc<AttentionParams>,
) -> Tensor<2> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn cross_entropy(
    _hidden: Tensor<2>,
    _head: Tensor<2>,
    _labels: Tensor<1, Int>,
) -> Tensor<1> {
    unreachable!("{UNAVAILABLE}")
}

/// Calls `work`; nothing is launched.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, Launches) {
    (work(), Launches::default())
}
