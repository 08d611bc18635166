//! Stand-ins for the fused operations in a build without the backend that they run on. No device is
//! fused then, so they are never called.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::attention_params::{AttentionParams, KvBuffers};
use crate::cpu::attention::PromptTable;
use crate::cpu::packed_matrix::PackedMatrix;

const UNAVAILABLE: &str = "no device of this build has fused operations";

pub(crate) fn linears(
    _input: Tensor<2>,
    _residual: Option<Tensor<2>>,
    _weights: Vec<Arc<PackedMatrix>>,
) -> Tensor<2> {
    unreachable!("{UNAVAILABLE}")
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

pub(crate) fn attention(
    _qkv: Tensor<2>,
    _prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    _params: Arc<AttentionParams>,
) -> Tensor<2> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn cached_attention(
    _qkv: Tensor<2>,
    _params: Arc<AttentionParams>,
    _prompts: &PromptTable,
    _separate_branch: bool,
    _cache: &mut KvBuffers,
) -> Tensor<2> {
    unreachable!("{UNAVAILABLE}")
}

pub(crate) fn cross_entropy(
    _hidden: Tensor<2>,
    _head: Arc<PackedMatrix>,
    _labels: Arc<Vec<usize>>,
) -> Tensor<1> {
    unreachable!("{UNAVAILABLE}")
}
