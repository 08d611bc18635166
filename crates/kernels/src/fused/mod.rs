//! The fused operations as an extension of Burn's flex backend, with their own backward passes.
//!
//! ```text
//! Tensor ─► Dispatch ─┬─► Flex ───────────► a kernel on slices              ops.rs, attention.rs
//!                     └─► Autodiff<Flex> ─► the same, and a backward node   backward.rs
//! ```
//!
//! Weights are frozen: no operation has a gradient for them.

mod attention;
mod backward;
mod ops;
mod shared_rows;
mod tensors;

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use crate::attention_params::{AttentionParams, KvBuffers};
use crate::cpu::attention::PromptTable;
use crate::cpu::packed_matrix::PackedMatrix;
use ops::{KernelOps, OptionalPrompt, OptionalResidual};

pub(crate) fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: Vec<Arc<PackedMatrix>>,
) -> Tensor<2> {
    let residual = match residual {
        Some(residual) => OptionalResidual::Some(residual.into_dispatch()),
        None => OptionalResidual::None,
    };
    let input = input.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::linears(input, residual, weights))
}

pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as KernelOps>::rms_norm(x, weight, epsilon as f32))
}

pub(crate) fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::swiglu(gate_up.into_dispatch()))
}

pub(crate) fn attention(
    qkv: Tensor<2>,
    prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    params: Arc<AttentionParams>,
) -> Tensor<2> {
    let prompt = match prompt {
        Some((key, value, gate)) => OptionalPrompt::Some {
            key: key.into_dispatch(),
            value: value.into_dispatch(),
            gate: gate.into_dispatch(),
        },
        None => OptionalPrompt::None,
    };
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::attention(qkv, prompt, params))
}

/// Heads, and below them the prompts' part if it is separate.
pub(crate) fn cached_attention(
    qkv: Tensor<2>,
    params: Arc<AttentionParams>,
    prompts: &PromptTable,
    separate_branch: bool,
    cache: &mut KvBuffers,
) -> Tensor<2> {
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::cached_attention(
        qkv,
        params,
        prompts,
        separate_branch,
        cache,
    ))
}

pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    head: Arc<PackedMatrix>,
    labels: Arc<Vec<usize>>,
) -> Tensor<1> {
    let hidden = hidden.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::cross_entropy(hidden, head, labels))
}
