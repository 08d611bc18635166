//! Gated prompts, packed for the forward pass: keys in panels, as in a cache.

use std::ops::Range;
use std::sync::Arc;

use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

use super::inputs::AttentionDims;
use super::key_panels::pack_key_panels;
use super::kv_span::KeyValueView;
use super::prompts::PromptView;

/// A gated prompt of one sequence, packed once for all passes. Clones share it.
#[derive(Debug, Clone)]
pub struct PackedPrompt(Arc<PackedPromptData>);

#[derive(Debug)]
struct PackedPromptData {
    heads: AttentionDims,
    len: usize,
    /// Panels of 16 tokens: `[kv_heads, tokens / 16, head_dim, 16]`.
    keys: Vec<f32>,
    /// `[kv_heads, len, head_dim]`
    values: Vec<f32>,
    /// `[heads]`
    gate: Vec<f32>,
}

impl PackedPrompt {
    /// Packs one batch of a prompt, without its padding.
    pub(crate) fn pack<S: Simd>(
        simd: S,
        heads: AttentionDims,
        prompt: &PromptView,
        batch: usize,
    ) -> Self {
        let AttentionDims { kv_heads, head_dim, .. } = heads;
        let len = prompt.head(heads, batch, 0).len;
        let panels_len = len.next_multiple_of(PANEL) * head_dim;
        let mut keys = vec![0.0; kv_heads * panels_len];
        let mut values = Vec::with_capacity(kv_heads * len * head_dim);
        for kv_head in 0..kv_heads {
            let head = prompt.head(heads, batch, kv_head);
            let panels = &mut keys[kv_head * panels_len..][..panels_len];
            pack_key_panels(simd, head.key, head_dim, head_dim, 0, panels);
            values.extend_from_slice(head.value);
        }
        let gate = prompt.gate[batch * heads.heads..][..heads.heads].to_vec();
        Self(Arc::new(PackedPromptData { heads, len, keys, values, gate }))
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        let PackedPromptData { keys, values, gate, .. } = &*self.0;
        [keys, values, gate].map(|part| size_of_val(&part[..])).iter().sum()
    }

    /// Number and width of the heads it was packed for.
    pub(super) fn heads(&self) -> AttentionDims {
        self.0.heads
    }

    fn head(&self, kv_head: usize) -> PackedPromptHead<'_> {
        let PackedPromptData { heads, len, keys, values, gate } = &*self.0;
        let (group, head_dim) = (heads.group_size(), heads.head_dim);
        let panels_len = len.next_multiple_of(PANEL) * head_dim;
        let keys = &keys[kv_head * panels_len..][..panels_len];
        let values = &values[kv_head * len * head_dim..][..len * head_dim];
        PackedPromptHead {
            key_values: KeyValueView::contiguous(keys, values, head_dim),
            gate: &gate[kv_head * group..][..group],
            len: *len,
        }
    }
}

/// The prompts of a packed batch: the distinct ones, and which of them each sequence attends to.
#[derive(Debug, Clone, Default)]
pub struct PromptTable {
    /// The distinct prompts.
    pub prompts: Vec<PackedPrompt>,
    /// The prompts of each sequence, as a range of `prompts`; empty if no sequence has any.
    pub of_sequence: Vec<Range<u32>>,
}

/// The prompts of a pass, with keys in panels.
#[derive(Debug, Clone, Copy)]
pub enum PackedPrompts<'a> {
    None,
    Stacked {
        prompt: PromptView<'a>,
        /// Panels of the prompts' keys: `[batches, kv_heads, tokens / 16, head_dim, 16]`.
        key_panels: &'a [f32],
    },
    Listed(&'a PromptTable),
}

/// A packed prompt of one KV head.
#[derive(Debug, Clone, Copy)]
pub struct PackedPromptHead<'a> {
    pub key_values: KeyValueView<'a>,
    /// `[group]`
    pub gate: &'a [f32],
    /// Tokens.
    pub len: usize,
}

impl<'a> PackedPrompts<'a> {
    /// Number of prompts of a sequence.
    pub fn count(self, sequence: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Stacked { .. } => 1,
            Self::Listed(table) => {
                table.of_sequence.get(sequence).map_or(0, ExactSizeIterator::len)
            }
        }
    }

    /// A prompt of a sequence.
    pub fn head(
        self,
        heads: AttentionDims,
        [sequence, number, kv_head]: [usize; 3],
    ) -> PackedPromptHead<'a> {
        match self {
            Self::None => unreachable!("there are no prompts"),
            Self::Stacked { prompt, key_panels } => {
                let batch = prompt.batch(sequence);
                let head = prompt.head(heads, batch, kv_head);
                let len = prompt.len.next_multiple_of(PANEL) * heads.head_dim;
                let keys = &key_panels[(batch * heads.kv_heads + kv_head) * len..][..len];
                PackedPromptHead {
                    key_values: KeyValueView::contiguous(keys, head.value, heads.head_dim),
                    gate: head.gate,
                    len: head.len,
                }
            }
            Self::Listed(table) => {
                let first = table.of_sequence[sequence].start as usize;
                table.prompts[first + number].head(kv_head)
            }
        }
    }
}

impl PackedPromptHead<'_> {
    /// Whether it changes the output of any query head.
    pub fn is_active(&self) -> bool {
        self.len > 0 && self.gate.iter().any(|gate| *gate != 0.0)
    }
}
