//! Attention of a block of queries, a block of keys at a time.

use crate::cpu::elementwise::scale_vectors;
use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

use super::group_shape::GroupShape;
use super::key_panels::pad_rows;
use super::kv_span::KeyValueView;
use super::mask::AttentionMask;
use super::matmul::{MatrixView, MatrixViewMut, matmul, score_tile_positions, scores};
use super::softmax::{MASKED_SCORE, row_max, softmax_weights};

/// Positions of a block of keys.
const KEY_BLOCK: usize = 192;
/// Elements from a row of scores to the next: not a power of two, which would map all rows to the
/// same cache sets.
const SCORE_STRIDE: usize = KEY_BLOCK + PANEL;

/// A block of queries, and the buffers for its attention.
#[derive(Debug)]
pub struct QueryBlock<'a> {
    pub shape: GroupShape,
    /// Rotated and scaled queries, `[queries, group, head_dim]`.
    pub query: &'a [f32],
    /// Buffer for scores.
    pub scores: &'a mut [f32],
    /// Buffer for values padded to whole vectors, if heads are not whole vectors.
    pub values: &'a mut [f32],
}

/// Sums of the online softmax for the queries of a block.
#[derive(Debug)]
pub struct OnlineSoftmax<'a> {
    /// Largest score of each row, `[queries, group]`.
    pub maxima: &'a mut [f32],
    /// Sum of the weights `e^(score - maximum)` of each row, `[queries, group]`.
    pub denominators: &'a mut [f32],
    /// Sums of weighted values, to be divided by the denominators: `[queries, group, width]`.
    pub values: &'a mut [f32],
}

impl<'a> OnlineSoftmax<'a> {
    /// Lengths of the buffers for `rows` rows.
    pub fn buffers(shape: GroupShape, rows: usize) -> [usize; 3] {
        [rows, rows, rows * shape.width]
    }

    /// Sums in the given buffers.
    pub fn new([maxima, denominators, values]: [&'a mut [f32]; 3]) -> Self {
        Self { maxima, denominators, values }
    }
}

impl QueryBlock<'_> {
    /// Lengths of the buffers for scores and values.
    pub fn buffers(shape: GroupShape) -> [usize; 2] {
        let values = if shape.width == shape.head_dim { 0 } else { KEY_BLOCK * shape.width };
        [shape.queries() * shape.group * SCORE_STRIDE, values]
    }

    /// Computes `sums` over all positions that the queries attend to.
    pub fn attend<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        source: KeyValueView,
        sums: &mut OnlineSoftmax,
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        sums.values.fill(0.0);
        sums.maxima.fill(MASKED_SCORE);
        sums.denominators.fill(0.0);
        let queries = self.queries();
        let visible = mask.visible_positions_of(0..queries);
        let mut start = visible.start / PANEL * PANEL;
        while start < visible.end {
            let end = visible.end.min(start + KEY_BLOCK);
            self.compute_scores(simd, mask, source.keys, start, end);
            let mut values = MatrixView::new(&source.values[start * head_dim..], head_dim);
            if width != head_dim {
                let rows = &values.elements[..(end - start) * head_dim];
                pad_rows(rows, head_dim, width, self.values);
                values = MatrixView::new(self.values, width);
            }
            let step = self.shape.queries_per_tile::<S>();
            for first in (0..queries).step_by(step) {
                let strip = first..queries.min(first + step);
                let positions = mask.visible_positions_of(strip.clone());
                let positions = positions.start.max(start)..positions.end.min(end);
                if positions.is_empty() {
                    continue;
                }
                let positions = positions.start - start..positions.end - start;
                let rows = strip.start * group..strip.end * group;
                let weights = &mut self.scores[rows.start * SCORE_STRIDE..rows.end * SCORE_STRIDE];
                let maxima = &mut sums.maxima[rows.clone()];
                let denominators = &mut sums.denominators[rows.clone()];
                let sums = &mut sums.values[rows.start * width..rows.end * width];
                simd.vectorize(
                    #[inline(always)]
                    || {
                        let visible = |row: usize| {
                            let visible = mask.visible_positions(strip.start + row / group);
                            let [from, to] = [visible.start, visible.end]
                                .map(|position| position.clamp(start, end) - start);
                            from..to
                        };
                        // All maxima first, then all weights: the exponentials of a row do not wait
                        // for its maximum.
                        for row in 0..rows.len() {
                            let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                            let max = row_max(simd, scores, visible(row), maxima[row]);
                            if denominators[row] != 0.0 && max != maxima[row] {
                                let factor = (maxima[row] - max).exp();
                                denominators[row] *= factor;
                                scale_vectors(simd, &mut sums[row * width..][..width], factor);
                            }
                            maxima[row] = max;
                        }
                        for row in 0..rows.len() {
                            let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                            let (visible, max) = (visible(row), maxima[row]);
                            denominators[row] +=
                                softmax_weights(simd, scores, visible, positions.clone(), max);
                        }
                    },
                );
                let first_value = positions.start * values.row_stride;
                matmul(
                    simd,
                    [rows.len(), positions.len(), width],
                    MatrixView::new(&weights[positions.start..], SCORE_STRIDE),
                    MatrixView { elements: &values.elements[first_value..], ..values },
                    MatrixViewMut { elements: sums, row_stride: width, accumulate: true },
                );
            }
            start += KEY_BLOCK;
        }
    }

    fn queries(&self) -> usize {
        self.query.len() / (self.shape.group * self.shape.head_dim)
    }

    /// Computes the scores of the positions `start..end`, for the queries that attend to them.
    fn compute_scores<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        keys: &[f32],
        start: usize,
        end: usize,
    ) {
        let GroupShape { head_dim, group, .. } = self.shape;
        let queries = self.queries();
        let step = self.shape.queries_per_tile::<S>();
        let end = end.next_multiple_of(PANEL);
        for position in (start..end).step_by(score_tile_positions::<S>()) {
            let positions = position..end.min(position + score_tile_positions::<S>());
            let query_range = mask.queries_attending_to(positions.clone(), queries);
            let (first, last) = (query_range.start / step * step, query_range.end);
            if first >= last {
                continue;
            }
            scores(
                simd,
                (last - first) * group,
                head_dim,
                MatrixView::new(&self.query[first * group * head_dim..], head_dim),
                &keys[positions.start * head_dim..positions.end * head_dim],
                MatrixViewMut {
                    elements: &mut self.scores[first * group * SCORE_STRIDE + position - start..],
                    row_stride: SCORE_STRIDE,
                    accumulate: false,
                },
            );
        }
    }
}
