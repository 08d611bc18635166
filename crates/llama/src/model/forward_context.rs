//! What all layers of one forward pass share: sequence layout, rotary embedding, masks.

use burn::tensor::{Bool, Tensor};
use kernels::SequenceLayout;

use super::rotary::RotaryTensors;

/// What all layers of one forward pass share.
#[derive(Debug, Clone)]
pub struct ForwardContext {
    /// The sequences, if attention is fused; `rotary` and masks are `None` then.
    pub(super) layout: Option<SequenceLayout>,
    /// `None` if positions are learned.
    pub(super) rotary: Option<RotaryTensors>,
    /// Learned embeddings of the positions, `[batch or 1, seq, d_model]`.
    pub(super) position_embeddings: Option<Tensor<3>>,
    /// `[batch or 1, 1, seq, past + seq]`, true where attention is masked; `None`: plain causal.
    pub(super) mask: Option<Tensor<4, Bool>>,
    /// The same for layers without a sliding window.
    pub(super) full_attention_mask: Option<Tensor<4, Bool>>,
    /// Number of such layers, which are the lowest ones.
    pub(super) full_attention_layers: usize,
}

impl ForwardContext {
    pub(super) fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        match &self.rotary {
            Some(rotary) => rotary.apply(heads),
            None => heads,
        }
    }

    pub(super) fn mask(&self, layer: usize) -> Option<Tensor<4, Bool>> {
        if layer < self.full_attention_layers {
            self.full_attention_mask.clone()
        } else {
            self.mask.clone()
        }
    }
}
