//! Stand-ins where the backend of the fused operations is not in the build: never called, since no
//! device is fused then.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::call::{AttentionParams, KvBuffers};
use crate::cpu::packed::Packed;

const ABSENT: &str = "no device of this build has fused operations";

pub(crate) fn linears(
    _input: Tensor<2>,
    _residual: Option<Tensor<2>>,
    _weights: Vec<Arc<Packed>>,
) -> Tensor<2> {
    unreachable!("{ABSENT}")
}

pub(crate) fn rms_norm<const D: usize>(
    _x: Tensor<D>,
    _weight: Tensor<1>,
    _epsilon: f64,
) -> Tensor<D> {
    unreachable!("{ABSENT}")
}

pub(crate) fn swiglu(_both: Tensor<2>) -> Tensor<2> {
    unreachable!("{ABSENT}")
}

pub(crate) fn attention(
    _qkv: Tensor<2>,
    _prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    _call: Arc<AttentionParams>,
    _cache: Option<&mut KvBuffers>,
) -> Tensor<2> {
    unreachable!("{ABSENT}")
}

pub(crate) fn cross_entropy(
    _hidden: Tensor<2>,
    _head: Arc<Packed>,
    _labels: Arc<Vec<usize>>,
) -> Tensor<1> {
    unreachable!("{ABSENT}")
}
