//! The operations of the backend extension, and their forward passes on the flex backend.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, Flex, backend_extension};

use super::attention::{attention_forward, cached_attention_forward};
use super::tensors::{as_slice, contiguous, dims, from_vec, from_vec_like};
use crate::attention_params::{AttentionParams, KvBuffers};
use crate::cpu;
use crate::cpu::attention::PromptTable;
use crate::cpu::packed_matrix::PackedMatrix;
use crate::cpu::simd::SimdLevel;

/// A residual to add to a linear layer's output. The extension macro takes no `Option` of a tensor.
#[derive(ExtensionType)]
pub enum OptionalResidual<B: Backend> {
    None,
    Some(FloatTensor<B>),
}

/// Keys, values and gates of a prompt.
#[derive(ExtensionType)]
pub enum OptionalPrompt<B: Backend> {
    None,
    Some { key: FloatTensor<B>, value: FloatTensor<B>, gate: FloatTensor<B> },
}

/// Operations that this crate adds to a backend.
#[backend_extension(Autodiff, Flex)]
pub trait KernelOps: Backend {
    /// `input · Wᵀ` of several weights, concatenated, plus a residual.
    fn linears(
        input: FloatTensor<Self>,
        #[extension_type] residual: OptionalResidual<Self>,
        weights: Vec<Arc<PackedMatrix>>,
    ) -> FloatTensor<Self>;

    /// Root-mean-square norm of rows.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32)
    -> FloatTensor<Self>;

    /// `silu(gate) * up` of rows that hold both.
    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention of whole sequences in a packed batch, with an optional gated prompt.
    fn attention(
        qkv: FloatTensor<Self>,
        #[extension_type] prompt: OptionalPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self>;

    /// Attention of sequences with a cache, without gradients: heads, `[rows, heads head_dim]`, and
    /// below them, with `separate_branch`, as many rows of what the prompts add.
    fn cached_attention(
        qkv: FloatTensor<Self>,
        params: Arc<AttentionParams>,
        prompts: &PromptTable,
        separate_branch: bool,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self>;

    /// Output head and summed cross-entropy.
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<PackedMatrix>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self>;
}

impl KernelOps for Flex {
    fn linears(
        input: FloatTensor<Self>,
        residual: OptionalResidual<Self>,
        weights: Vec<Arc<PackedMatrix>>,
    ) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("linear").entered();
        let weights = weights.iter().map(AsRef::as_ref).collect::<Vec<_>>();
        let width = weights.iter().map(|weight| weight.dims()[0]).sum::<usize>();
        let input = contiguous(input);
        let x = as_slice(&input);
        let n = x.len() / weights[0].dims()[1];
        let mut out = vec![0.0; n * width];
        cpu::gemm::gemm(SimdLevel::best(), x, &weights, &mut out, false);
        if let OptionalResidual::Some(residual) = residual {
            // After the GEMM, not as its initial value: the result equals that of two operations
            // bit for bit.
            let residual = contiguous(residual);
            assert_eq!(as_slice(&residual).len(), out.len(), "elements of the residual");
            cpu::elementwise::add_assign(SimdLevel::best(), as_slice(&residual), &mut out);
        }
        from_vec(out, [n, width])
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("norm").entered();
        let (x, weight) = (contiguous(x), contiguous(weight));
        let mut out = vec![0.0; as_slice(&x).len()];
        let level = SimdLevel::best();
        cpu::norm::rms_norm(level, as_slice(&x), as_slice(&weight), epsilon, &mut out);
        from_vec_like(out, &x)
    }

    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("swiglu").entered();
        let gate_up = contiguous(gate_up);
        let [n, width] = dims(&gate_up);
        let mut out = vec![0.0; n * width / 2];
        cpu::swiglu::swiglu(SimdLevel::best(), as_slice(&gate_up), width / 2, &mut out);
        from_vec(out, [n, width / 2])
    }

    fn attention(
        qkv: FloatTensor<Self>,
        prompt: OptionalPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let prompt = match prompt {
            OptionalPrompt::Some { key, value, gate } => Some([key, value, gate].map(contiguous)),
            OptionalPrompt::None => None,
        };
        attention_forward(&contiguous(qkv), prompt.as_ref(), &params, false).0
    }

    fn cached_attention(
        qkv: FloatTensor<Self>,
        params: Arc<AttentionParams>,
        prompts: &PromptTable,
        separate_branch: bool,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        cached_attention_forward(&contiguous(qkv), &params, prompts, separate_branch, cache)
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<PackedMatrix>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self> {
        cross_entropy_forward(&contiguous(hidden), &head, &labels, None)
    }
}

/// The summed cross-entropy; also writes the gradient of `hidden` to `d_hidden`.
pub(super) fn cross_entropy_forward(
    hidden: &FloatTensor<Flex>,
    head: &PackedMatrix,
    labels: &[usize],
    d_hidden: Option<&mut [f32]>,
) -> FloatTensor<Flex> {
    let _span = tracing::trace_span!("head and loss").entered();
    let hidden = as_slice(hidden);
    let level = SimdLevel::best();
    let loss = cpu::cross_entropy::cross_entropy(level, hidden, head, labels, d_hidden);
    from_vec(vec![loss as f32], [1])
}
