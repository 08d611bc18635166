//! Gradients of a chunk of keys and values, from a block of queries at a time.

use std::ops::Range;

use crate::cpu::simd::Simd;

use super::{
    AttentionInputs, PANEL, Sequence,
    blocks::Shape,
    matrix::{Matrix, MatrixViewMut, multiply, score_tile_positions, scores},
    pack::{pack_key_panels, rotate, rotate_backward},
    queries::Queries,
    sight::Sight,
    softmax::softmax_weights_backward,
};

/// Slots in a block of keys.
pub const BLOCK: usize = 96;
/// From a row of scores to the next: rows of a power of two would fall into the same cache sets.
pub const SCORE_STRIDE: usize = BLOCK + PANEL;

/// Keys and values of some slots, and their gradients.
pub struct Chunk<'a> {
    shape: Shape,
    /// The first slot.
    start: usize,
    /// Rotated keys, `[slots, width]`.
    keys: &'a mut [f32],
    /// The same, in panels.
    key_panels: &'a mut [f32],
    value_panels: &'a mut [f32],
    /// Gradients, `[slots, width]`.
    d_keys: &'a mut [f32],
    d_values: &'a mut [f32],
}

impl<'a> Chunk<'a> {
    /// Lengths of the buffers for so many slots.
    pub fn buffers(shape: Shape, slots: usize) -> [usize; 5] {
        let panels = slots.next_multiple_of(PANEL) * shape.head_dim;
        let rows = slots * shape.width;
        [rows, panels, panels, rows, rows]
    }

    /// A chunk in these buffers, whose first slot is `start`.
    pub fn new(shape: Shape, start: usize, buffers: [&'a mut [f32]; 5]) -> Self {
        let [keys, key_panels, value_panels, d_keys, d_values] = buffers;
        Self { shape, start, keys, key_panels, value_panels, d_keys, d_values }
    }

    /// Fetches keys and values, and sets gradients to zero.
    pub fn fill<S: Simd>(
        &mut self,
        simd: S,
        inputs: &AttentionInputs,
        sequence: &Sequence,
        kv_head: usize,
    ) {
        let Shape { head_dim, width, .. } = self.shape;
        let slots = self.keys.len() / width;
        let first = sequence.first_row + self.start;
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in self.keys.chunks_exact_mut(width).enumerate() {
                    let row = first + i;
                    rotate(simd, inputs.key(row, kv_head), inputs.turn(row), 1.0, to);
                    to[head_dim..].fill(0.0);
                }
            },
        );
        pack_key_panels(simd, self.keys, width, head_dim, 0, self.key_panels);
        if slots > 0 {
            let start = inputs.value_at(first, kv_head);
            let end = inputs.value_at(first + slots - 1, kv_head) + head_dim;
            let values = &inputs.qkv[start..end];
            pack_key_panels(simd, values, inputs.heads.row(), head_dim, 0, self.value_panels);
        }
        self.d_keys.fill(0.0);
        self.d_values.fill(0.0);
    }

    /// Adds what the queries contribute to the gradients, theirs included.
    pub fn back<S: Simd>(&mut self, simd: S, sight: Sight, queries: &mut Queries) {
        let slots = self.d_keys.len() / self.shape.width;
        for start in (0..slots).step_by(BLOCK) {
            let block = Block {
                shape: self.shape,
                sight,
                count: queries.rows / self.shape.group,
                first: self.start + start,
                slots: BLOCK.min(slots - start),
            };
            if block.queries::<S>(0..block.slots).is_empty() {
                continue;
            }
            self.scores(simd, block, start, queries);
            block.weigh(simd, queries);
            self.add_keys(simd, block, start, queries);
            self.add_queries(simd, block, start, queries);
        }
    }

    /// Scores, and gradients of weights.
    fn scores<S: Simd>(&self, simd: S, block: Block, start: usize, queries: &mut Queries) {
        let Shape { head_dim, width, group } = self.shape;
        let end = block.slots.next_multiple_of(PANEL);
        for slot in (0..end).step_by(score_tile_positions::<S>()) {
            let slots = slot..end.min(slot + score_tile_positions::<S>());
            let by = block.queries::<S>(slots.clone());
            if by.is_empty() {
                continue;
            }
            let panels = (start + slots.start) * head_dim..(start + slots.end) * head_dim;
            for (left, right, out) in [
                (&*queries.query, &self.key_panels[panels.clone()], &mut *queries.weights),
                (&*queries.d_out, &self.value_panels[panels.clone()], &mut *queries.d_scores),
            ] {
                let left = Matrix::new(&left[by.start * group * width..], width);
                let numbers = &mut out[by.start * group * SCORE_STRIDE + slot..];
                let out = MatrixViewMut { numbers, row: SCORE_STRIDE, add: false };
                scores(simd, by.len() * group, head_dim, left, right, out);
            }
        }
    }

    /// Adds to the gradients of keys and values.
    fn add_keys<S: Simd>(&mut self, simd: S, block: Block, start: usize, queries: &Queries) {
        let Shape { width, group, .. } = self.shape;
        for first in (0..block.slots).step_by(S::ROWS) {
            let end = block.slots.min(first + S::ROWS);
            let by = block.queries::<S>(first..end);
            if by.is_empty() {
                continue;
            }
            let row = by.start * group;
            for (left, right, out) in [
                (&*queries.weights, &*queries.d_out, &mut *self.d_values),
                (&*queries.d_scores, &*queries.query, &mut *self.d_keys),
            ] {
                let left = Matrix::transposed(&left[row * SCORE_STRIDE + first..], SCORE_STRIDE);
                let right = Matrix::new(&right[row * width..], width);
                let numbers = &mut out[(start + first) * width..];
                let out = MatrixViewMut { numbers, row: width, add: true };
                multiply(simd, [end - first, by.len() * group, width], left, right, out);
            }
        }
    }

    /// Adds to the gradients of queries.
    fn add_queries<S: Simd>(&self, simd: S, block: Block, start: usize, queries: &mut Queries) {
        let Shape { width, group, .. } = self.shape;
        let step = self.shape.strip::<S>();
        let by = block.queries::<S>(0..block.slots);
        for first in by.clone().step_by(step) {
            let last = by.end.min(first + step);
            let seen = block.seen(block.sight.visible_positions_of(first..last));
            let row = first * group;
            let left = &queries.d_scores[row * SCORE_STRIDE + seen.start..];
            let right = &self.keys[(start + seen.start) * width..];
            let numbers = &mut queries.d_query[row * width..];
            multiply(
                simd,
                [(last - first) * group, seen.len(), width],
                Matrix::new(left, SCORE_STRIDE),
                Matrix::new(right, width),
                MatrixViewMut { numbers, row: width, add: true },
            );
        }
    }

    /// Writes the gradients of keys as they were before, and of values: `part` gives numbers of
    /// `d_qkv`.
    pub fn write<'b, S: Simd>(
        &self,
        simd: S,
        inputs: &AttentionInputs,
        sequence: &Sequence,
        kv_head: usize,
        part: impl Fn(usize, usize) -> Option<&'b mut [f32]>,
    ) {
        let Shape { head_dim, width, .. } = self.shape;
        simd.vectorize(
            #[inline(always)]
            || {
                let rows = self.d_keys.chunks_exact(width).zip(self.d_values.chunks_exact(width));
                for (i, (d_key, d_value)) in rows.enumerate() {
                    let row = sequence.first_row + self.start + i;
                    if let Some(to) = part(inputs.key_at(row, kv_head), head_dim) {
                        rotate_backward(simd, &d_key[..head_dim], inputs.turn(row), 1.0, to);
                    }
                    if let Some(to) = part(inputs.value_at(row, kv_head), head_dim) {
                        to.copy_from_slice(&d_value[..head_dim]);
                    }
                }
            },
        );
    }
}

/// A block of queries and a block of slots.
#[derive(Debug, Clone, Copy)]
struct Block {
    shape: Shape,
    sight: Sight,
    /// Queries.
    count: usize,
    /// The first slot.
    first: usize,
    /// Slots.
    slots: usize,
}

impl Block {
    /// Queries that may see any of these slots of the block, from the start of a strip on.
    fn queries<S: Simd>(self, slots: Range<usize>) -> Range<usize> {
        let slots = self.first + slots.start..self.first + slots.end;
        let by = self.sight.queries(slots, self.count);
        let step = self.shape.strip::<S>();
        by.start / step * step..by.end
    }

    /// Those of the seen slots that are in the block, counted from its first.
    fn seen(self, seen: Range<usize>) -> Range<usize> {
        let [start, end] = [seen.start, seen.end]
            .map(|slot| slot.clamp(self.first, self.first + self.slots) - self.first);
        start..end
    }

    /// Turns scores into weights, and the weights' gradients into those of scores.
    fn weigh<S: Simd>(self, simd: S, queries: &mut Queries) {
        let group = self.shape.group;
        let by = self.queries::<S>(0..self.slots);
        let rows = by.start * group..by.end * group;
        let Queries { weights, d_scores, lse, delta, .. } = queries;
        simd.vectorize(
            #[inline(always)]
            || {
                for row in rows {
                    let seen = self.seen(self.sight.slots(row / group));
                    let [weights, d_scores] = [&mut *weights, &mut *d_scores]
                        .map(|rows| &mut rows[row * SCORE_STRIDE..][..SCORE_STRIDE]);
                    let sums = [lse[row], delta[row]];
                    softmax_weights_backward(simd, weights, d_scores, seen, 0..self.slots, sums);
                }
            },
        );
    }
}
