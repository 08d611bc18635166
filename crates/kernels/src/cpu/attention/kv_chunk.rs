//! Gradients of a chunk of keys and values, from a block of queries at a time.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

use super::chunking::{KEY_BLOCK, SCORE_STRIDE};
use super::group_shape::GroupShape;
use super::inputs::{AttentionInputs, Sequence};
use super::key_panels::pack_key_panels;
use super::mask::AttentionMask;
use super::matmul::{MatrixView, MatrixViewMut, OutMode, matmul, score_tile_positions, scores};
use super::query_gradients::QueryGradients;
use super::rotary::{rotate, rotate_backward};
use super::softmax::softmax_weights_backward;

/// Keys and values of a range of positions, and their gradients.
pub struct KvChunk<'a> {
    shape: GroupShape,
    /// First position.
    start: usize,
    /// Rotated keys, `[positions, width]`.
    keys: &'a mut [f32],
    /// Rotated keys in panels.
    key_panels: &'a mut [f32],
    /// Values in panels.
    value_panels: &'a mut [f32],
    /// Gradients of the rotated keys, `[positions, width]`.
    d_keys: &'a mut [f32],
    /// Gradients of the values, `[positions, width]`.
    d_values: &'a mut [f32],
}

impl<'a> KvChunk<'a> {
    /// Lengths of the buffers for this number of positions.
    pub fn buffers(shape: GroupShape, positions: usize) -> [usize; 5] {
        let panels = positions.next_multiple_of(PANEL) * shape.head_dim;
        let rows = positions * shape.width;
        [rows, panels, panels, rows, rows]
    }

    /// A chunk in the given buffers, from position `start` on.
    pub fn new(shape: GroupShape, start: usize, buffers: [&'a mut [f32]; 5]) -> Self {
        let [keys, key_panels, value_panels, d_keys, d_values] = buffers;
        Self { shape, start, keys, key_panels, value_panels, d_keys, d_values }
    }

    /// Loads keys and values, and zeroes the gradients.
    pub fn load<S: Simd>(
        &mut self,
        simd: S,
        inputs: &AttentionInputs,
        sequence: &Sequence,
        kv_head: usize,
    ) {
        let GroupShape { head_dim, width, .. } = self.shape;
        let positions = self.keys.len() / width;
        let first = sequence.first_row + self.start;
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in self.keys.chunks_exact_mut(width).enumerate() {
                    let row = first + i;
                    rotate(simd, inputs.key(row, kv_head), inputs.cos_sin(row), 1.0, to);
                    to[head_dim..].fill(0.0);
                }
            },
        );
        pack_key_panels(simd, self.keys, width, head_dim, 0, self.key_panels);
        if positions > 0 {
            let start = inputs.value_at(first, kv_head);
            let end = inputs.value_at(first + positions - 1, kv_head) + head_dim;
            let values = &inputs.qkv[start..end];
            let row_stride = inputs.heads.qkv_width();
            pack_key_panels(simd, values, row_stride, head_dim, 0, self.value_panels);
        }
        self.d_keys.fill(0.0);
        self.d_values.fill(0.0);
    }

    /// Adds the contribution of a block of queries to the gradients of the chunk and of the
    /// queries.
    pub fn backward<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        queries: &mut QueryGradients,
    ) {
        let positions = self.d_keys.len() / self.shape.width;
        for start in (0..positions).step_by(KEY_BLOCK) {
            let block = ScoreBlock {
                shape: self.shape,
                mask,
                count: queries.rows / self.shape.group,
                first: self.start + start,
                positions: KEY_BLOCK.min(positions - start),
            };
            if block.queries::<S>(0..block.positions).is_empty() {
                continue;
            }
            self.scores(simd, block, start, queries);
            block.weights_backward(simd, queries);
            self.add_key_value_gradients(simd, block, start, queries);
            self.add_query_gradients(simd, block, start, queries);
        }
    }

    /// Computes scores, and gradients of weights.
    fn scores<S: Simd>(
        &self,
        simd: S,
        block: ScoreBlock,
        start: usize,
        queries: &mut QueryGradients,
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        let end = block.positions.next_multiple_of(PANEL);
        for position in (0..end).step_by(score_tile_positions::<S>()) {
            let positions = position..end.min(position + score_tile_positions::<S>());
            let query_range = block.queries::<S>(positions.clone());
            if query_range.is_empty() {
                continue;
            }
            let panels = (start + positions.start) * head_dim..(start + positions.end) * head_dim;
            for (lhs, rhs, out) in [
                (&*queries.query, &self.key_panels[panels.clone()], &mut *queries.weights),
                (&*queries.d_out, &self.value_panels[panels.clone()], &mut *queries.d_scores),
            ] {
                let row = query_range.start * group;
                let lhs = MatrixView::new(&lhs[row * width..], width);
                let elements = &mut out[row * SCORE_STRIDE + position..];
                let out =
                    MatrixViewMut { elements, row_stride: SCORE_STRIDE, mode: OutMode::Overwrite };
                scores(simd, query_range.len() * group, head_dim, lhs, rhs, out);
            }
        }
    }

    /// Adds to the gradients of keys and values.
    fn add_key_value_gradients<S: Simd>(
        &mut self,
        simd: S,
        block: ScoreBlock,
        start: usize,
        queries: &QueryGradients,
    ) {
        let GroupShape { width, group, .. } = self.shape;
        for first in (0..block.positions).step_by(S::TILE_ROWS) {
            let end = block.positions.min(first + S::TILE_ROWS);
            let query_range = block.queries::<S>(first..end);
            if query_range.is_empty() {
                continue;
            }
            let row = query_range.start * group;
            for (lhs, rhs, out) in [
                (&*queries.weights, &*queries.d_out, &mut *self.d_values),
                (&*queries.d_scores, &*queries.query, &mut *self.d_keys),
            ] {
                let lhs = &lhs[row * SCORE_STRIDE + first..];
                let lhs = MatrixView::transposed(lhs, SCORE_STRIDE);
                let rhs = MatrixView::new(&rhs[row * width..], width);
                let elements = &mut out[(start + first) * width..];
                let out = MatrixViewMut { elements, row_stride: width, mode: OutMode::Add };
                matmul(simd, [end - first, query_range.len() * group, width], lhs, rhs, out);
            }
        }
    }

    /// Adds to the gradients of queries.
    fn add_query_gradients<S: Simd>(
        &self,
        simd: S,
        block: ScoreBlock,
        start: usize,
        queries: &mut QueryGradients,
    ) {
        let GroupShape { width, group, .. } = self.shape;
        let step = self.shape.queries_per_tile::<S>();
        let query_range = block.queries::<S>(0..block.positions);
        for first in query_range.clone().step_by(step) {
            let last = query_range.end.min(first + step);
            let visible = block.visible(block.mask.visible_positions_of(first..last));
            let row = first * group;
            let lhs = &queries.d_scores[row * SCORE_STRIDE + visible.start..];
            let rhs = &self.keys[(start + visible.start) * width..];
            let elements = &mut queries.d_query[row * width..];
            matmul(
                simd,
                [(last - first) * group, visible.len(), width],
                MatrixView::new(lhs, SCORE_STRIDE),
                MatrixView::new(rhs, width),
                MatrixViewMut { elements, row_stride: width, mode: OutMode::Add },
            );
        }
    }

    /// Writes the gradients of keys and values as they are in `qkv`. `d_qkv_slice` returns a slice
    /// of `d_qkv`.
    pub fn write_gradients<'b, S: Simd>(
        &self,
        simd: S,
        inputs: &AttentionInputs,
        sequence: &Sequence,
        kv_head: usize,
        d_qkv_slice: impl Fn(usize, usize) -> Option<&'b mut [f32]>,
    ) {
        let GroupShape { head_dim, width, .. } = self.shape;
        simd.vectorize(
            #[inline(always)]
            || {
                let rows = self.d_keys.chunks_exact(width).zip(self.d_values.chunks_exact(width));
                for (i, (d_key, d_value)) in rows.enumerate() {
                    let row = sequence.first_row + self.start + i;
                    if let Some(to) = d_qkv_slice(inputs.key_at(row, kv_head), head_dim) {
                        rotate_backward(simd, &d_key[..head_dim], inputs.cos_sin(row), 1.0, to);
                    }
                    if let Some(to) = d_qkv_slice(inputs.value_at(row, kv_head), head_dim) {
                        to.copy_from_slice(&d_value[..head_dim]);
                    }
                }
            },
        );
    }
}

/// The scores of a block of queries and a block of keys.
#[derive(Debug, Clone, Copy)]
struct ScoreBlock {
    shape: GroupShape,
    mask: AttentionMask,
    /// Number of queries.
    count: usize,
    /// First position.
    first: usize,
    /// Number of positions.
    positions: usize,
}

impl ScoreBlock {
    /// The queries that may attend to any of these positions of the block, from the start of a tile
    /// on.
    fn queries<S: Simd>(self, positions: Range<usize>) -> Range<usize> {
        let positions = self.first + positions.start..self.first + positions.end;
        let query_range = self.mask.queries_attending_to(positions, self.count);
        let step = self.shape.queries_per_tile::<S>();
        query_range.start / step * step..query_range.end
    }

    /// The visible positions that are in the block, relative to its first.
    fn visible(self, visible: Range<usize>) -> Range<usize> {
        let [start, end] = [visible.start, visible.end]
            .map(|position| position.clamp(self.first, self.first + self.positions) - self.first);
        start..end
    }

    /// Replaces scores by weights, and the gradients of weights by those of scores.
    fn weights_backward<S: Simd>(self, simd: S, queries: &mut QueryGradients) {
        let group = self.shape.group;
        let query_range = self.queries::<S>(0..self.positions);
        let rows = query_range.start * group..query_range.end * group;
        let QueryGradients { weights, d_scores, lse, delta, .. } = queries;
        simd.vectorize(
            #[inline(always)]
            || {
                for row in rows {
                    let visible = self.visible(self.mask.visible_positions(row / group));
                    let [weights, d_scores] = [&mut *weights, &mut *d_scores]
                        .map(|rows| &mut rows[row * SCORE_STRIDE..][..SCORE_STRIDE]);
                    let positions = 0..self.positions;
                    let sums = [lse[row], delta[row]];
                    softmax_weights_backward(simd, weights, d_scores, visible, positions, sums);
                }
            },
        );
    }
}
