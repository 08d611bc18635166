//! Gated prompts, as they come from tensors.

use super::inputs::AttentionDims;
use super::packed_prompts::PromptTable;

/// The prompts of a pass.
#[derive(Debug, Clone, Copy)]
pub enum Prompts<'a> {
    /// No prompts.
    None,
    /// One prompt for each sequence, or one for all; with gradients.
    Stacked(PromptView<'a>),
    /// Any number of prompts for each sequence.
    Listed(&'a PromptTable),
}

impl<'a> Prompts<'a> {
    /// Prompts that have gradients.
    pub(super) fn stacked(&self) -> Option<PromptView<'a>> {
        match self {
            Self::Stacked(prompt) => Some(*prompt),
            Self::None | Self::Listed(_) => None,
        }
    }
}

/// Prompt K/V and gates: all tokens of a sequence also attend to the prompt.
#[derive(Debug, Clone, Copy)]
pub struct PromptView<'a> {
    /// `[batches, kv_heads, len, head_dim]`, not rotated.
    pub key: &'a [f32],
    /// `[batches, kv_heads, len, head_dim]`
    pub value: &'a [f32],
    /// Factors of the prompt branch, `[batches, heads]`.
    pub gate: &'a [f32],
    /// 1, shared by all sequences, or the number of sequences.
    pub batches: usize,
    /// Prompt tokens.
    pub len: usize,
    /// Valid prompt tokens of each batch, `[batches]`, if some are fewer than `len`. An empty
    /// prompt adds nothing.
    pub lens: Option<&'a [usize]>,
}

/// The prompt of one sequence and one KV head.
#[derive(Debug, Clone, Copy)]
pub struct PromptHead<'a> {
    /// Valid tokens, `[len, head_dim]`.
    pub key: &'a [f32],
    /// Valid tokens, `[len, head_dim]`.
    pub value: &'a [f32],
    /// `[group]`
    pub gate: &'a [f32],
    /// Valid tokens.
    pub len: usize,
}

impl<'a> PromptView<'a> {
    /// The batch of a sequence.
    pub(super) fn batch(&self, sequence: usize) -> usize {
        if self.batches == 1 { 0 } else { sequence }
    }

    /// The prompt of a batch and a KV head.
    pub(super) fn head(
        &self,
        heads: AttentionDims,
        batch: usize,
        kv_head: usize,
    ) -> PromptHead<'a> {
        let AttentionDims { kv_heads, head_dim, .. } = heads;
        let group = heads.group_size();
        let len = self.lens.map_or(self.len, |lens| lens[batch]);
        let start = (batch * kv_heads + kv_head) * self.len * head_dim;
        PromptHead {
            key: &self.key[start..][..len * head_dim],
            value: &self.value[start..][..len * head_dim],
            gate: &self.gate[batch * heads.heads + kv_head * group..][..group],
            len,
        }
    }
}

/// Gradients of a [`PromptView`], of the same shapes.
#[derive(Debug)]
pub struct PromptGradients<'a> {
    /// `[batches, kv_heads, len, head_dim]`
    pub key: &'a mut [f32],
    /// `[batches, kv_heads, len, head_dim]`
    pub value: &'a mut [f32],
    /// `[batches, heads]`
    pub gate: &'a mut [f32],
}
