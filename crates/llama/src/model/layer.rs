//! hidden ─► norm ─► attention ─► + ─► norm ─► feed-forward ─► +

use burn::module::Module;
use burn::tensor::Tensor;

use super::adapter_hooks::Adapter;
use super::attention::Attention;
use super::feed_forward::FeedForward;
use super::forward_context::ForwardContext;
use super::layer_cache::LayerCache;
use super::linear::Linear;
use super::norm::{Norm, NormName};
use crate::config::LinearName;

/// One decoder layer.
#[derive(Module, Debug)]
pub struct Layer {
    /// Norm before the attention.
    pub attention_norm: Norm,
    /// Causal self-attention.
    pub attention: Attention,
    /// Norm before the feed-forward network.
    pub feed_forward_norm: Norm,
    /// Feed-forward network.
    pub feed_forward: FeedForward,
}

impl Layer {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        index: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut LayerCache>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let hidden = self.forward_attention(index, hidden, context, cache, adapter);
        self.forward_feed_forward(index, hidden, adapter)
    }

    /// The first half: `hidden` plus the attention's output.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub(super) fn forward_attention(
        &self,
        index: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        cache: Option<&mut LayerCache>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let weight_override = adapter.norm(index, NormName::Attention, &self.attention_norm);
        let normed = self.attention_norm.forward(hidden.clone(), weight_override);
        self.attention.forward(index, hidden, normed, context, cache, adapter)
    }

    /// The second half: `hidden` plus the feed-forward network's output. Each row is computed from
    /// itself alone.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub(super) fn forward_feed_forward(
        &self,
        index: usize,
        hidden: Tensor<3>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let weight_override = adapter.norm(index, NormName::FeedForward, &self.feed_forward_norm);
        let normed = self.feed_forward_norm.forward(hidden.clone(), weight_override);
        self.feed_forward.forward(index, hidden, normed, adapter)
    }

    /// The linear layer of this name, if the layer has it.
    pub(crate) fn linear(&self, name: LinearName) -> Option<&Linear> {
        let Attention { query, key, value, output, .. } = &self.attention;
        let FeedForward { gate, up, down, .. } = &self.feed_forward;
        match name {
            LinearName::Query => Some(query),
            LinearName::Key => Some(key),
            LinearName::Value => Some(value),
            LinearName::Output => Some(output),
            LinearName::Gate => gate.as_ref(),
            LinearName::Up => Some(up),
            LinearName::Down => Some(down),
            LinearName::Head => None,
        }
    }

    /// All linear layers.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        LinearName::ALL_IN_LAYER.iter().filter_map(|&name| self.linear(name))
    }

    /// All linear layers, mutable.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Attention { query, key, value, output, .. } = &mut self.attention;
        let FeedForward { gate, up, down, .. } = &mut self.feed_forward;
        [query, key, value, output, up, down].into_iter().chain(gate)
    }
}
