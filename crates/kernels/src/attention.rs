//! Fused attention to the sequences themselves and to gated prompts.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

use crate::attention_params::{AttentionDims, AttentionParams, KvBuffers, SequenceLayout};
use crate::backend;
use crate::sizes::PANEL;

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

/// Rotated keys, and values, of one layer for a batch of sequences.
#[derive(Debug, Clone)]
pub struct FusedKvCache(KvBuffers);

impl FusedKvCache {
    /// An empty cache for `capacity` tokens of each sequence.
    pub fn new(heads: AttentionDims, batch: usize, capacity: usize) -> Self {
        let positions = capacity.next_multiple_of(PANEL);
        let len = batch * heads.kv_heads * positions * heads.head_dim;
        Self(KvBuffers { keys: vec![0.0; len], values: vec![0.0; len], capacity })
    }
}

/// Causal grouped-query attention of a packed batch, plus the gated attention to a prompt.
///
/// Queries and keys are rotated by `layout.rotary_table`. With a `window`, a token attends to that
/// many positions, its own included. With a `cache`, the sequences continue the cached ones, and
/// their keys and values are appended.
///
/// Gradients go to `qkv` and to the tensors of the prompt; with a cache there are no gradients.
///
/// # Shapes
/// - `qkv`: `[rows, (heads + 2 kv_heads) head_dim]`, f32, not rotated; each row holds query heads,
///   key heads, value heads
/// - output: `[rows, heads * head_dim]`
///
/// # Panics
/// If the device is not fused, shapes do not match, or sequences that share rows have a cache.
///
/// Source: arXiv 2305.13245 (grouped queries); arXiv 2205.14135 (online softmax); arXiv 2303.16199,
/// equations 5 to 8 (gated prompt).
pub fn attention(
    qkv: Tensor<2>,
    heads: AttentionDims,
    layout: &SequenceLayout,
    window: Option<usize>,
    prompt: Option<&GatedPrompt>,
    cache: Option<&mut FusedKvCache>,
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
    backend::attention(qkv, prompt, params, cache.map(|FusedKvCache(buffers)| buffers))
}
