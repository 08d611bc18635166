//! Attention to blocks by tensor operations that every device has.
//!
//! ```text
//! keys, values of new tokens ─► slots of their blocks
//! slots of a sequence's blocks ─► keys, values [sequences, kv_heads, total, head_dim] ─► attention, masked
//! ```
//!
//! Products of such devices can depend on the shapes of their tensors. So that a sequence's results do not
//! depend on the other sequences of a pass, `total` is a function of its own length alone: its blocks,
//! rounded up to a power of two so that there are few shapes. Sequences of equal `total` are a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::BLOCK_TOKENS;

use super::causal_mask::LayerMasks;
use super::forward_paged::{FixedShape, PagedSequence};
use super::layer_cache::TensorBlocks;
use super::unfused_attention::grouped_query_attention;
use crate::config::LlamaConfig;

/// Where the tokens of a pass are written, and what they attend to.
#[derive(Debug, Clone)]
pub(super) struct BlockPlan {
    /// Slot of each token, padding included, `[batch * seq]`.
    new_slots: Tensor<1, Int>,
    groups: Vec<SequenceGroup>,
    /// Row of each sequence in the concatenated groups, `[sequences]`.
    order: Tensor<1, Int>,
}

/// Sequences of equal `total`.
#[derive(Debug, Clone)]
struct SequenceGroup {
    /// Rows of the pass, `[n]`.
    rows: Tensor<1, Int>,
    /// Slots of each sequence, `[n * total]`.
    slots: Tensor<1, Int>,
    masks: LayerMasks,
}

impl BlockPlan {
    /// # Panics
    /// If a block is not in the cache, or a sequence has too few.
    pub(super) fn new(
        config: &LlamaConfig,
        sequences: &[PagedSequence<'_>],
        shape: FixedShape,
        blocks: usize,
        device: &Device,
    ) -> Self {
        let scratch = TensorBlocks::scratch_slot(blocks);
        let mut new_slots = vec![scratch; shape.sequences * shape.tokens];
        for (sequence, slots) in sequences.iter().zip(new_slots.chunks_mut(shape.tokens)) {
            for (index, slot) in slots[..sequence.tokens.len()].iter_mut().enumerate() {
                *slot = slot_of(sequence, sequence.past + index, blocks);
            }
        }
        let mut totals = sequences.iter().map(attended_slots).collect::<Vec<_>>();
        totals.sort_unstable();
        totals.dedup();
        let mut order = vec![0; sequences.len()];
        let mut placed = 0;
        let groups = totals.into_iter().map(|total| {
            let rows = (0..sequences.len()).filter(|&row| attended_slots(&sequences[row]) == total);
            let rows = rows.collect::<Vec<_>>();
            for &row in &rows {
                order[row] = placed;
                placed += 1;
            }
            let members = rows.iter().map(|&row| sequences[row]).collect::<Vec<_>>();
            let slots = members.iter().flat_map(|sequence| {
                (0..total).map(move |position| {
                    if position < sequence.len() {
                        slot_of(sequence, position, blocks)
                    } else {
                        TensorBlocks::zero_slot(blocks)
                    }
                })
            });
            SequenceGroup {
                slots: indices(slots.collect(), device),
                rows: indices(rows, device),
                masks: LayerMasks::of_sequences(config, &members, shape.tokens, total, device),
            }
        });
        let groups = groups.collect();
        let (new_slots, order) = (indices(new_slots, device), indices(order, device));
        Self { new_slots, groups, order }
    }

    /// Writes new keys and values to their blocks, and attends to the blocks.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`
    /// - `key`, `value`: `[batch, kv_heads, seq, head_dim]`
    pub(super) fn attend(
        &self,
        layer: usize,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        blocks: &mut TensorBlocks,
    ) -> Tensor<4> {
        blocks.write(&self.new_slots, key, value);
        let [batch, heads, seq, head_dim] = query.dims();
        let [sequences] = self.order.dims();
        let attended = self.groups.iter().map(|group| {
            let [n] = group.rows.dims();
            let query = query.clone().select(0, group.rows.clone());
            let (key, value) = blocks.read(&group.slots, n);
            grouped_query_attention(query, key, value, group.masks.of(layer))
        });
        let attended = Tensor::cat(attended.collect(), 0).select(0, self.order.clone());
        if sequences == batch {
            return attended;
        }
        let filler = Tensor::zeros([batch - sequences, heads, seq, head_dim], &query.device());
        Tensor::cat(vec![attended, filler], 0)
    }
}

/// Slots that a sequence attends to, masked ones included.
fn attended_slots(sequence: &PagedSequence<'_>) -> usize {
    sequence.len().div_ceil(BLOCK_TOKENS).next_power_of_two() * BLOCK_TOKENS
}

fn slot_of(sequence: &PagedSequence<'_>, position: usize, blocks: usize) -> usize {
    let block = sequence.blocks[position / BLOCK_TOKENS] as usize;
    assert!(block < blocks, "block {block} of a cache of {blocks}");
    block * BLOCK_TOKENS + position % BLOCK_TOKENS
}

fn indices(values: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let values = values.into_iter().map(|value| value as i64).collect::<Vec<_>>();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
