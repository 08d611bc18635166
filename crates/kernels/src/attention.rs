//! Attention over texts and to gated prompts: one operation on CPUs.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use crate::backend;
use crate::call::{AttentionParams, KvBuffers};

pub use crate::call::RotaryTable;
pub use crate::cpu::attention::{AttentionDims, Sequence};

/// A prompt that a layer's queries attend to beside the text: softmax over the prompt alone, times
/// a gate.
#[derive(Debug, Clone)]
pub struct GatedPrompt {
    /// `[batch or 1, kv_heads, prompt, head_dim]`, never rotated, f32.
    pub key: Tensor<4>,
    /// `[batch or 1, kv_heads, prompt, head_dim]`, f32.
    pub value: Tensor<4>,
    /// What the branch is multiplied by, `[batch or 1, heads or 1, 1, 1]`, f32.
    pub gate: Tensor<4>,
    /// Prompt tokens of each row that count, where rows have prompts of different lengths.
    pub lens: Option<Vec<usize>>,
}

impl GatedPrompt {
    /// What the prompt adds to the heads.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`, rotary embedding applied
    ///
    /// Source: arXiv 2303.16199, equations 5 to 8.
    pub fn forward(&self, query: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, head_dim] = query.dims();
        let [_one, kv_heads, prompt, _head_dim] = self.key.dims();
        // Transposed before it is repeated over the batch, not after: the backward pass then sums
        // over the batch what lies in memory as it is indexed. cubek-reduce 0.3.1 adds up the wrong
        // numbers of a transposed tensor, on every GPU backend (`sum_dim` and its like over a
        // leading dimension; `generate_vector_size` there goes on behind the first axis that differs).
        let key = self.key.clone().transpose().expand([batch, kv_heads, head_dim, prompt]);
        let value = self.value.clone().expand([batch, kv_heads, prompt, head_dim]);
        // The query heads of a group share a key head: they become rows of one product.
        let query = query.reshape([batch, kv_heads, heads / kv_heads * seq, head_dim]);
        let mut scores = query.matmul(key) / (head_dim as f64).sqrt();
        if let Some(mask) = self.mask() {
            scores = scores + mask;
        }
        let attended = softmax(scores, 3).matmul(value);
        attended.reshape([batch, heads, seq, head_dim]) * self.gate.clone()
    }

    /// Added to the scores: 0 for a row's own prompt, far below any score behind it,
    /// `[batch, 1, 1, prompt]`.
    fn mask(&self) -> Option<Tensor<4>> {
        /// Its exponential is 0 beside that of a score.
        const FILLER: f32 = -1e30;
        let lens = self.lens.as_ref()?;
        let [_batch, _kv_heads, prompt, _head_dim] = self.key.dims();
        let slot = |len: usize| (0..prompt).map(move |slot| if slot < len { 0.0 } else { FILLER });
        let values = lens.iter().flat_map(|&len| slot(len)).collect::<Vec<f32>>();
        let data = burn::tensor::TensorData::new(values, [lens.len(), 1, 1, prompt]);
        Some(Tensor::from_data(data, &self.key.device().without_autodiff()))
    }
}

/// Texts of a pass, as the fused attention sees them. All layers share it.
#[derive(Debug, Clone)]
pub struct SequenceLayout {
    /// Where each text's rows are, and what came before them.
    pub sequences: Arc<Vec<Sequence>>,
    /// The row of every token, text behind text, where texts that begin alike share rows, numbered
    /// in the order in which they are first used. `sequences` count in tokens then. Such texts have
    /// no cache. Where each text has a prompt of its own, those that share rows have equal ones: what
    /// such a row is, is worked out with the first one's.
    pub token_rows: Option<Arc<Vec<usize>>>,
    /// `None` where queries and keys are not rotated, or were rotated before.
    pub rotary_table: Option<Arc<RotaryTable>>,
}

impl RotaryTable {
    /// Cosines and sines, `[rows, head_dim / 2]` each.
    ///
    /// # Panics
    /// If they are not equally many.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>) -> Self {
        assert_eq!(cos.len(), sin.len(), "a sine for each cosine");
        Self { cos, sin }
    }

    /// `[rows, head_dim / 2]`
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// `[rows, head_dim / 2]`
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}

/// Rotated keys, and values, of one layer and a batch of texts.
#[derive(Debug, Clone)]
pub struct FusedKvCache(KvBuffers);

impl FusedKvCache {
    /// Room for `capacity` tokens of each text.
    pub fn new(heads: AttentionDims, batch: usize, capacity: usize) -> Self {
        let slots = capacity.next_multiple_of(16);
        let len = batch * heads.kv_heads * slots * heads.head_dim;
        Self(KvBuffers { keys: vec![0.0; len], values: vec![0.0; len], capacity })
    }
}

/// Fused causal attention of each text to itself, plus the branches of prompts.
///
/// # Shapes
/// - `qkv`: `[rows, (heads + 2 kv_heads) head_dim]`, f32, not rotated: query heads, key heads, value
///   heads of each row
/// - output: `[rows, heads * head_dim]`
///
/// Gradients go to `qkv` and to the prompts; with a cache there are none.
///
/// Source: arXiv 2305.13245; arXiv 2205.14135; arXiv 2303.16199, equations 5 to 8.
///
/// # Panics
/// If the device has no fused operations, shapes do not fit, or texts that share rows have a cache.
pub fn attention(
    qkv: Tensor<2>,
    heads: AttentionDims,
    texts: &SequenceLayout,
    window: Option<usize>,
    prompt: Option<&GatedPrompt>,
    cache: Option<&mut FusedKvCache>,
) -> Tensor<2> {
    let call = Arc::new(AttentionParams {
        heads,
        rotation: texts.rotary_table.clone(),
        sequences: texts.sequences.clone(),
        rows: texts.token_rows.clone(),
        window,
        prompt_lens: prompt.and_then(|prompt| prompt.lens.clone()),
    });
    let prompt = prompt.map(|GatedPrompt { key, value, gate, .. }| {
        let [batches, _kv_heads, _prompt, _head_dim] = key.dims();
        let gate = gate.clone().expand([batches, heads.heads, 1, 1]);
        (key.clone(), value.clone(), gate.reshape([batches, heads.heads]))
    });
    backend::attention(qkv, prompt, call, cache.map(|FusedKvCache(buffers)| buffers))
}
