//! An adapter ready to join a model's passes: prompts as keys and values, gates activated.

use burn::tensor::{Tensor, activation::softmax};
use llama::{Adapter, PromptKv};

/// What [`AdaptionPrompt::project`](crate::AdaptionPrompt::project) makes; the
/// [`Adapter`] that is handed to [`Llama::forward`](llama::Llama::forward).
#[derive(Debug, Clone)]
pub struct ProjectedPrompts {
    first_layer: usize,
    layers: Vec<ProjectedLayer>,
}

/// One layer of it.
#[derive(Debug, Clone)]
pub(crate) struct ProjectedLayer {
    pub prompt: PromptKv,
    /// `[1, heads or 1, 1, 1]`
    pub gate: Tensor<4>,
}

impl ProjectedPrompts {
    pub(crate) fn new(first_layer: usize, layers: Vec<ProjectedLayer>) -> Self {
        Self { first_layer, layers }
    }
}

impl Adapter for ProjectedPrompts {
    fn attention(&self, layer: usize, query: &Tensor<4>) -> Option<Tensor<4>> {
        let index = layer.checked_sub(self.first_layer)?;
        self.layers.get(index).map(|layer| layer.branch(query.clone()))
    }
}

impl ProjectedLayer {
    /// What the prompt adds to the heads: attention to the prompt alone, softmax in f32, no mask,
    /// times the gate.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`, rotary embedding applied
    ///
    /// Source: arXiv 2303.16199, equations 5 to 8.
    fn branch(&self, query: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, head_dim] = query.dims();
        let PromptKv { key, value } = &self.prompt;
        let [_one, kv_heads, prompt, _head_dim] = key.dims();
        let over_batch =
            |shared: &Tensor<4>| shared.clone().expand([batch, kv_heads, prompt, head_dim]);
        // The query heads of a group share a key head: they become rows of one product.
        let query = query.reshape([batch, kv_heads, heads / kv_heads * seq, head_dim]);
        let scores = query.matmul(over_batch(key).transpose()) / (head_dim as f64).sqrt();
        let attended = softmax(scores, 3).matmul(over_batch(value));
        attended.reshape([batch, heads, seq, head_dim]) * self.gate.clone()
    }
}
