//! The operations of the backend extension, and their forward passes.

use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Cube, ExtensionType, backend_extension};

use super::attention::SavedAttention;
use super::cross_entropy::cross_entropy;
use super::rms_norm::rms_norm;
use super::swiglu::{swiglu, swiglu_pair};
use super::tensors::{contiguous, contiguous_int, into_float};
use crate::attention_params::AttentionParams;

/// Keys, values and gates of a prompt. The extension macro takes no `Option` of a tensor.
#[derive(ExtensionType)]
pub enum GpuPrompt<B: Backend> {
    None,
    Some { key: FloatTensor<B>, value: FloatTensor<B>, gate: FloatTensor<B> },
}

/// Operations that this crate adds to the CubeCL backend.
#[backend_extension(Autodiff, Cube)]
pub trait GpuOps: Backend {
    /// Root-mean-square norm of rows. The weight has no gradient.
    fn gpu_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// `silu(gate) * up` of rows that hold both.
    fn gpu_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `silu(gate) * up`.
    fn gpu_swiglu_pair(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention of whole sequences in a packed batch, with an optional gated prompt.
    fn gpu_attention(
        qkv: FloatTensor<Self>,
        #[extension_type] prompt: GpuPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self>;

    /// Output head and summed cross-entropy. The head has no gradient.
    fn gpu_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        labels: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl GpuOps for Cube {
    fn gpu_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        into_float(rms_norm(&contiguous(x), &contiguous(weight), epsilon))
    }

    fn gpu_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        into_float(swiglu(&contiguous(gate_up)))
    }

    fn gpu_swiglu_pair(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        into_float(swiglu_pair(&contiguous(gate), &contiguous(up)))
    }

    fn gpu_attention(
        qkv: FloatTensor<Self>,
        prompt: GpuPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let prompt = match prompt {
            GpuPrompt::Some { key, value, gate } => Some([key, value, gate].map(contiguous)),
            GpuPrompt::None => None,
        };
        into_float(SavedAttention::forward(contiguous(qkv), prompt, params).out())
    }

    fn gpu_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        labels: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let (hidden, head, labels) = (contiguous(hidden), contiguous(head), contiguous_int(labels));
        into_float(cross_entropy(&hidden, &head, &labels, false).0)
    }
}
