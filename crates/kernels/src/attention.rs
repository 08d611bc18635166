//! Fused attention to the sequences themselves and to gated prompts.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

use crate::attention_params::{AttentionDims, AttentionParams, KvBuffers, SequenceLayout};
use crate::backend::{self, is_fused};
use crate::cpu::attention::{PackedPrompt, PromptTable, PromptView};
use crate::cpu::simd::{SimdLevel, dispatch};
use crate::gpu;
use crate::sizes::BLOCK_TOKENS;

/// Prompt K/V with a gate: a layer's queries attend to the prompt in addition to the text. The
/// softmax covers the prompt alone, and the result is multiplied by the gate.
#[derive(Debug, Clone)]
pub struct GatedPrompt {
    /// Keys without rotary embedding, `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub key: Tensor<4>,
    /// Values, `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub value: Tensor<4>,
    /// Factor of the prompt branch, `[batch or 1, heads or 1, 1, 1]`, f32.
    pub gate: Tensor<4>,
    /// Valid prompt tokens of each row, if rows have prompts of different lengths.
    pub lens: Option<Vec<usize>>,
}

impl GatedPrompt {
    /// The gated attention to the prompt, to be added to the attention heads. Runs on every device.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`, rotary embedding applied
    ///
    /// Source: arXiv 2303.16199, equations 5 to 8.
    pub fn forward(&self, query: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, head_dim] = query.dims();
        let [_one, kv_heads, prompt, _head_dim] = self.key.dims();
        // The key is transposed before it is expanded over the batch: the backward pass then sums a
        // contiguous tensor over the batch. cubek-reduce 0.3.1 returns wrong sums for a transposed
        // tensor on every GPU backend (`sum_dim` and similar over a leading dimension; its
        // `generate_vector_size` does not stop at the first axis that differs).
        let key = self.key.clone().transpose().expand([batch, kv_heads, head_dim, prompt]);
        let value = self.value.clone().expand([batch, kv_heads, prompt, head_dim]);
        // The query heads of a group share a key head and become rows of one matmul.
        let query = query.reshape([batch, kv_heads, heads / kv_heads * seq, head_dim]);
        let mut scores = query.matmul(key) / (head_dim as f64).sqrt();
        if let Some(mask) = self.mask() {
            scores = scores + mask;
        }
        let attended = softmax(scores, 3).matmul(value);
        attended.reshape([batch, heads, seq, head_dim]) * self.gate.clone()
    }

    /// The additive mask of prompts of different lengths, `[batch, 1, 1, prompt]`: 0 for valid
    /// tokens.
    fn mask(&self) -> Option<Tensor<4>> {
        /// Its exponential is 0 compared with that of any score.
        const MASKED_SCORE: f32 = -1e30;
        let lens = self.lens.as_ref()?;
        let [_batch, _kv_heads, prompt, _head_dim] = self.key.dims();
        let row = |len: usize| (0..prompt).map(move |k| if k < len { 0.0 } else { MASKED_SCORE });
        let values = lens.iter().flat_map(|&len| row(len)).collect::<Vec<f32>>();
        let data = TensorData::new(values, [lens.len(), 1, 1, prompt]);
        Some(Tensor::from_data(data, &self.key.device().without_autodiff()))
    }
}

/// Rotated keys, and values, of one layer, in blocks of [`BLOCK_TOKENS`] tokens. Which blocks a
/// sequence has is up to the caller, see [`SequenceLayout::block_tables`].
#[derive(Debug, Clone)]
pub struct FusedKvCache(KvBuffers);

impl FusedKvCache {
    /// A cache of empty blocks. The system provides their memory when they are first written to.
    pub fn new(heads: AttentionDims, blocks: usize) -> Self {
        let len = blocks * heads.kv_heads * BLOCK_TOKENS * heads.head_dim;
        Self(KvBuffers { keys: vec![0.0; len], values: vec![0.0; len] })
    }

    /// Bytes of a block.
    pub fn block_bytes(heads: AttentionDims) -> usize {
        2 * heads.kv_heads * BLOCK_TOKENS * heads.head_dim * size_of::<f32>()
    }
}

impl PackedPrompt {
    /// Packs a prompt for layers with these heads; one for each batch of the prompt's tensors.
    ///
    /// # Panics
    /// If shapes do not match.
    pub fn new(prompt: &GatedPrompt, heads: AttentionDims) -> Vec<Self> {
        let GatedPrompt { key, value, gate, lens } = prompt;
        let [batches, _kv_heads, len, _head_dim] = key.dims();
        let gate = gate.clone().expand([batches, heads.heads, 1, 1]);
        let [key, value, gate] = [key.clone(), value.clone(), gate].map(to_host);
        let view = PromptView {
            key: &key,
            value: &value,
            gate: &gate,
            batches,
            len,
            lens: lens.as_deref(),
        };
        view.check_shapes(heads);
        let level = SimdLevel::best();
        (0..batches)
            .map(|batch| dispatch!(level, simd => Self::pack(simd, heads, &view, batch)))
            .collect()
    }
}

/// Values in host memory.
#[expect(
    clippy::disallowed_methods,
    reason = "the tensor is in host memory: reading it does not wait"
)]
fn to_host(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("prompts are f32")
}

/// Causal grouped-query attention of whole sequences in a packed batch, plus the gated attention to
/// a prompt.
///
/// Queries and keys are rotated by `layout.rotary_table`. With a `window`, a token attends to that
/// many positions, its own included. Gradients go to `qkv` and to the tensors of the prompt.
///
/// # Shapes
/// - `qkv`: `[rows, (heads + 2 kv_heads) head_dim]`, f32, not rotated; each row holds query heads,
///   key heads, value heads
/// - output: `[rows, heads * head_dim]`
///
/// # Panics
/// If [`has_fused_attention`](crate::has_fused_attention) is false, shapes do not match, or sequences
/// have a past.
///
/// Source: arXiv 2305.13245 (grouped queries); arXiv 2205.14135 (online softmax); arXiv 2303.16199,
/// equations 5 to 8 (gated prompt).
pub fn attention(
    qkv: Tensor<2>,
    heads: AttentionDims,
    layout: &SequenceLayout,
    window: Option<usize>,
    prompt: Option<&GatedPrompt>,
) -> Tensor<2> {
    let params = Arc::new(AttentionParams {
        heads,
        layout: layout.clone(),
        window,
        prompt_lens: prompt.and_then(|prompt| prompt.lens.clone()),
    });
    let prompt = prompt.map(|GatedPrompt { key, value, gate, .. }| {
        let [batches, _kv_heads, _prompt, _head_dim] = key.dims();
        let gate = gate.clone().expand([batches, heads.heads, 1, 1]);
        (key.clone(), value.clone(), gate.reshape([batches, heads.heads]))
    });
    if is_fused(&qkv.device()) {
        return backend::attention(qkv, prompt, params);
    }
    gpu::attention(qkv, prompt, params)
}

/// As [`attention`], of sequences that continue those in a cache: their keys and values are
/// appended. There are no gradients.
///
/// A token's output does not depend on the other sequences of the pass, nor on how its sequence is
/// divided into passes and blocks: all its sums are in the same order, bit for bit.
///
/// Returns the attention heads; with `separate_branch` what the prompts add is not added to them but
/// returned by itself, for models that add it after the output projection.
///
/// # Shapes
/// - `qkv`: as for [`attention`]
/// - output: `[rows, heads * head_dim]`, both
///
/// # Panics
/// If the device is not fused, shapes do not match, sequences share rows, the layout has no block
/// tables, a sequence has too few blocks, or two sequences write to the same block.
pub fn cached_attention(
    qkv: Tensor<2>,
    heads: AttentionDims,
    layout: &SequenceLayout,
    window: Option<usize>,
    prompts: &PromptTable,
    separate_branch: bool,
    cache: &mut FusedKvCache,
) -> (Tensor<2>, Option<Tensor<2>>) {
    let [rows, _width] = qkv.dims();
    let params =
        Arc::new(AttentionParams { heads, layout: layout.clone(), window, prompt_lens: None });
    let outputs = backend::cached_attention(qkv, params, prompts, separate_branch, &mut cache.0);
    if separate_branch {
        let branch = outputs.clone().narrow(0, rows, rows);
        (outputs.narrow(0, 0, rows), Some(branch))
    } else {
        (outputs, None)
    }
}
