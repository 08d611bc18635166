//! What all layers of one forward pass share: sequence layout, rotary embedding, masks.

use burn::tensor::Tensor;
use kernels::SequenceLayout;

use super::block_plan::BlockPlan;
use super::causal_mask::LayerMasks;
use super::rotary::RotaryTensors;

/// What all layers of one forward pass share.
#[derive(Debug, Clone)]
pub struct ForwardContext {
    /// The sequences, if attention is fused; there are no tensors of rotary
    /// embedding and masks then.
    pub(super) layout: Option<SequenceLayout>,
    /// `None` if positions are learned.
    pub(super) rotary: Option<RotaryTensors>,
    /// Learned embeddings of the positions, `[batch or 1, seq, d_model]`.
    pub(super) position_embeddings: Option<Tensor<3>>,
    /// Masks of sequences in rows, `[batch or 1, 1, seq, past + seq]`.
    pub(super) masks: LayerMasks,
    /// Positions of rows before the new tokens.
    pub(super) past: usize,
    /// Attention to blocks, where it is not fused.
    pub(super) block_plan: Option<BlockPlan>,
}

impl ForwardContext {
    pub(super) fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        match &self.rotary {
            Some(rotary) => rotary.apply(heads),
            None => heads,
        }
    }
}
