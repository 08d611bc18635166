//! The fused operations as an extension of Burn's CPU backend, with their own backward passes.
//!
//! ```text
//! Tensor ─► Dispatch ─┬─► Flex ───────────────► a kernel on slices
//!                     └─► Autodiff<Flex> ─► the same, and a node that knows the way back
//! ```
//!
//! Weights are frozen: no operation has a gradient for them.

mod back;
mod own_rows;
mod slices;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::call::{AttentionParams, KvBuffers};
use crate::cpu::attention::{self, AttentionInputs, Cache, Prompt, Rotation};
use crate::cpu::packed::Packed;
use crate::cpu::simd::SimdLevel;
use crate::cpu::{self, workspace};
use slices::{new, slice};

/// What the CPU backend does beyond Burn's own operations.
#[backend_extension(Autodiff, Flex)]
pub trait KernelOps: Backend {
    /// `input · Wᵀ` of each weight, side by side.
    fn linears(input: FloatTensor<Self>, weights: Vec<Arc<Packed>>) -> FloatTensor<Self>;

    /// The same plus `residual`.
    fn linears_with_residual(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weights: Vec<Arc<Packed>>,
    ) -> FloatTensor<Self>;

    /// Root-mean-square norm of rows.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32)
    -> FloatTensor<Self>;

    /// `silu(gate) * up` of rows that hold both.
    fn swiglu(both: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention over whole texts.
    fn attention(qkv: FloatTensor<Self>, call: Arc<AttentionParams>) -> FloatTensor<Self>;

    /// Attention over whole texts, with a gated prompt.
    fn prompted_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
    ) -> FloatTensor<Self>;

    /// Attention of new tokens to what a cache holds and to themselves; without gradients.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self>;

    /// The same with a gated prompt.
    fn prompted_cached_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self>;

    /// The sum of the labels' losses.
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<Packed>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self>;
}

impl KernelOps for Flex {
    fn linears(input: FloatTensor<Self>, weights: Vec<Arc<Packed>>) -> FloatTensor<Self> {
        multiply(input, None, &weights)
    }

    fn linears_with_residual(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weights: Vec<Arc<Packed>>,
    ) -> FloatTensor<Self> {
        multiply(input, Some(residual), &weights)
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("norm").entered();
        let (x, weight) = (slices::contiguous(x), slices::contiguous(weight));
        let mut out = vec![0.0; slice(&x).len()];
        cpu::norm::rms_norm(SimdLevel::best(), slice(&x), slice(&weight), epsilon, &mut out);
        slices::like(out, &x)
    }

    fn swiglu(both: FloatTensor<Self>) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("swiglu").entered();
        let both = slices::contiguous(both);
        let [n, width] = slices::dims(&both);
        let mut out = vec![0.0; n * width / 2];
        cpu::swiglu::swiglu(SimdLevel::best(), slice(&both), width / 2, &mut out);
        new(out, [n, width / 2])
    }

    fn attention(qkv: FloatTensor<Self>, call: Arc<AttentionParams>) -> FloatTensor<Self> {
        attend(&slices::contiguous(qkv), None, &call, Keep::Nothing).0
    }

    fn prompted_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let prompt = [prompt_key, prompt_value, prompt_gate].map(slices::contiguous);
        attend(&slices::contiguous(qkv), Some(&prompt), &call, Keep::Nothing).0
    }

    fn cached_attention(
        qkv: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        attend(&slices::contiguous(qkv), None, &call, Keep::Keys(cache)).0
    }

    fn prompted_cached_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        let prompt = [prompt_key, prompt_value, prompt_gate].map(slices::contiguous);
        attend(&slices::contiguous(qkv), Some(&prompt), &call, Keep::Keys(cache)).0
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<Packed>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("head and loss").entered();
        let hidden = slices::contiguous(hidden);
        let loss = cpu::cross_entropy::cross_entropy(
            SimdLevel::best(),
            slice(&hidden),
            &head,
            &labels,
            None,
        );
        new(vec![loss as f32], [1])
    }
}

fn multiply(
    input: FloatTensor<Flex>,
    residual: Option<FloatTensor<Flex>>,
    weights: &[Arc<Packed>],
) -> FloatTensor<Flex> {
    let _span = tracing::trace_span!("linear").entered();
    let weights = weights.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    let width = weights.iter().map(|weight| weight.dims()[0]).sum::<usize>();
    let input = slices::contiguous(input);
    let x = slice(&input);
    let n = x.len() / weights[0].dims()[1];
    let mut out = vec![0.0; n * width];
    cpu::product::product(SimdLevel::best(), x, &weights, &mut out, false);
    if let Some(residual) = residual {
        // Behind the product, not before it: the same numbers as of two operations, to the last bit.
        let residual = slices::contiguous(residual);
        assert_eq!(slice(&residual).len(), out.len(), "numbers of the residual");
        cpu::norm::add(SimdLevel::best(), slice(&residual), &mut out);
    }
    new(out, [n, width])
}

/// Keys, values and gates of a prompt, contiguous.
type PromptTensors = [FloatTensor<Flex>; 3];

/// What the kernel is given.
fn inputs<'a>(
    qkv: &'a [f32],
    rotation: Option<Rotation<'a>>,
    prompt: Option<&'a PromptTensors>,
    call: &'a AttentionParams,
) -> AttentionInputs<'a> {
    AttentionInputs {
        heads: call.heads,
        qkv,
        rotation,
        sequences: &call.sequences,
        window: call.window,
        prompt: prompt.map(|[key, value, gate]| {
            let [batches, _kv_heads, len, _head_dim] = slices::dims(key);
            Prompt {
                key: slice(key),
                value: slice(value),
                gate: slice(gate),
                batches,
                len,
                lens: call.prompt_lens.as_deref(),
            }
        }),
    }
}

/// What an attention keeps beside its output.
enum Keep<'a> {
    /// Nothing: nobody asks again.
    Nothing,
    /// The logarithms of the softmaxes' sums, for the way back.
    Sums,
    /// Keys and values, for the tokens to come.
    Keys(&'a mut KvBuffers),
}

/// The heads, and what [`Keep::Sums`] asked for: one number for each head of each token.
fn attend(
    qkv: &FloatTensor<Flex>,
    prompt: Option<&PromptTensors>,
    call: &AttentionParams,
    keep: Keep,
) -> (FloatTensor<Flex>, Vec<f32>) {
    let _span = tracing::trace_span!("attention").entered();
    let [n, _width] = slices::dims(qkv);
    let tokens = call.rows.as_ref().map_or(n, |rows| rows.len());
    let width = call.heads.heads * call.heads.head_dim;
    let mut out = vec![0.0; n * width];
    let mut lse = match keep {
        Keep::Sums => vec![0.0; tokens * call.heads.heads],
        Keep::Nothing | Keep::Keys(_) => Vec::new(),
    };
    let cache = match keep {
        Keep::Keys(KvBuffers { keys, values, capacity }) => {
            assert!(call.rows.is_none(), "texts with a cache share no rows");
            Some(Cache { keys, values, capacity: *capacity })
        }
        Keep::Nothing | Keep::Sums => None,
    };
    own_rows::with(call, slice(qkv), |qkv, rotation| {
        let inputs = inputs(qkv, rotation, prompt, call);
        let lse = (!lse.is_empty()).then_some(&mut lse[..]);
        match &call.rows {
            None => attention::forward(SimdLevel::best(), &inputs, cache, &mut out, lse),
            Some(rows) => workspace::with(tokens * width, |own| {
                attention::forward(SimdLevel::best(), &inputs, cache, own, lse);
                own_rows::scatter_first_rows(rows, own, &mut out);
            }),
        }
    });
    (new(out, [n, width]), lse)
}

// What the rest of the crate calls, with tensors.

pub(crate) fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: Vec<Arc<Packed>>,
) -> Tensor<2> {
    let input = input.into_dispatch();
    Tensor::from_dispatch(match residual {
        Some(residual) => {
            <Dispatch as KernelOps>::linears_with_residual(input, residual.into_dispatch(), weights)
        }
        None => <Dispatch as KernelOps>::linears(input, weights),
    })
}

pub(crate) fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as KernelOps>::rms_norm(x, weight, epsilon as f32))
}

pub(crate) fn swiglu(both: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as KernelOps>::swiglu(both.into_dispatch()))
}

pub(crate) fn attention(
    qkv: Tensor<2>,
    prompt: Option<(Tensor<4>, Tensor<4>, Tensor<2>)>,
    call: Arc<AttentionParams>,
    cache: Option<&mut KvBuffers>,
) -> Tensor<2> {
    let qkv = qkv.into_dispatch();
    let prompt = prompt.map(|(key, value, gate)| {
        (key.into_dispatch(), value.into_dispatch(), gate.into_dispatch())
    });
    Tensor::from_dispatch(match (prompt, cache) {
        (None, None) => <Dispatch as KernelOps>::attention(qkv, call),
        (None, Some(cache)) => <Dispatch as KernelOps>::cached_attention(qkv, call, cache),
        (Some((key, value, gate)), None) => {
            <Dispatch as KernelOps>::prompted_attention(qkv, key, value, gate, call)
        }
        (Some((key, value, gate)), Some(cache)) => {
            <Dispatch as KernelOps>::prompted_cached_attention(qkv, key, value, gate, call, cache)
        }
    })
}

pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    head: Arc<Packed>,
    labels: Arc<Vec<usize>>,
) -> Tensor<1> {
    let hidden = hidden.into_dispatch();
    Tensor::from_dispatch(<Dispatch as KernelOps>::cross_entropy(hidden, head, labels))
}
