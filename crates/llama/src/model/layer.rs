//! hidden ─► norm ─► attention ─► + ─► norm ─► feed-forward ─► +

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::{Attention, ForwardContext};
use crate::feed_forward::FeedForward;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::norm::NormName;
use crate::seam::Adapter;
use crate::state::LayerCache;

/// One decoder layer.
#[derive(Module, Debug)]
pub struct Layer {
    /// Before the attention.
    pub attention_norm: Norm,
    /// Looks back over the sequence.
    pub attention: Attention,
    /// Before the feed-forward.
    pub feed_forward_norm: Norm,
    /// Works on each position alone.
    pub feed_forward: FeedForward,
}

impl Layer {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        index: usize,
        hidden: Tensor<3>,
        pass: &ForwardContext,
        cache: Option<(&mut LayerCache, usize)>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let instead = adapter.norm(index, NormName::Attention, &self.attention_norm);
        let normed = self.attention_norm.forward(hidden.clone(), instead);
        let hidden = self.attention.forward(index, hidden, normed, pass, cache, adapter);
        let instead = adapter.norm(index, NormName::FeedForward, &self.feed_forward_norm);
        let normed = self.feed_forward_norm.forward(hidden.clone(), instead);
        self.feed_forward.forward(index, hidden, normed, adapter)
    }

    /// Its linear layers.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let Attention { query, key, value, output, .. } = &self.attention;
        let FeedForward { gate, up, down, .. } = &self.feed_forward;
        [query, key, value, output, up, down].into_iter().chain(gate)
    }

    /// Its linear layers, to change them.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Attention { query, key, value, output, .. } = &mut self.attention;
        let FeedForward { gate, up, down, .. } = &mut self.feed_forward;
        [query, key, value, output, up, down].into_iter().chain(gate)
    }
}
