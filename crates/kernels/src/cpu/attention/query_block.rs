//! Attention of a block of queries, a segment of positions at a time.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::sizes::{BLOCK_TOKENS, PANEL};

use super::group_shape::GroupShape;
use super::key_panels::pad_rows;
use super::kv_span::KeyValueView;
use super::mask::AttentionMask;
use super::matmul::{MatrixView, MatrixViewMut, matmul, score_tile_positions, scores};
use super::online_softmax::{OnlineSoftmax, SCORE_STRIDE, SEGMENT};
use super::softmax::{MASKED_SCORE, row_max, softmax_weights};

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
    /// Buffer for the sums over a segment.
    pub segment_sums: OnlineSoftmax<'a>,
}

/// The positions of a segment that queries of a block attend to.
#[derive(Debug, Clone)]
struct Segment {
    /// Start of the segment.
    start: usize,
    /// The positions.
    positions: Range<usize>,
}

impl QueryBlock<'_> {
    /// Lengths of the buffers for scores and values.
    pub fn buffers(shape: GroupShape) -> [usize; 2] {
        let values = if shape.width == shape.head_dim { 0 } else { SEGMENT * shape.width };
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
        sums.reset();
        let queries = self.queries();
        let visible = mask.visible_positions_of(0..queries);
        for start in (visible.start / SEGMENT * SEGMENT..visible.end).step_by(SEGMENT) {
            let positions = visible.start.max(start)..visible.end.min(start + SEGMENT);
            let segment = Segment { start, positions };
            self.compute_scores(simd, mask, source, &segment);
            self.pad_values(source, &segment);
            let step = self.shape.queries_per_tile::<S>();
            for first in (0..queries).step_by(step) {
                let strip = first..queries.min(first + step);
                self.attend_segment(simd, mask, source, &segment, strip, sums);
            }
        }
    }

    fn queries(&self) -> usize {
        self.query.len() / (self.shape.group * self.shape.head_dim)
    }

    /// Computes the scores of a segment, for the queries that attend to it.
    fn compute_scores<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        source: KeyValueView,
        segment: &Segment,
    ) {
        let GroupShape { head_dim, group, .. } = self.shape;
        let queries = self.queries();
        let step = self.shape.queries_per_tile::<S>();
        let Segment { start, ref positions } = *segment;
        // A tile is in one block.
        let tile = score_tile_positions::<S>();
        let end = positions.end.next_multiple_of(PANEL);
        for position in (positions.start / tile * tile..end).step_by(tile) {
            let positions = position..end.min(position + tile);
            let query_range = mask.queries_attending_to(positions.clone(), queries);
            let (first, last) = (query_range.start / step * step, query_range.end);
            if first >= last {
                continue;
            }
            let keys = source.block_keys(position / BLOCK_TOKENS);
            let keys = &keys[position % BLOCK_TOKENS * head_dim..][..positions.len() * head_dim];
            scores(
                simd,
                (last - first) * group,
                head_dim,
                MatrixView::new(&self.query[first * group * head_dim..], head_dim),
                keys,
                MatrixViewMut {
                    elements: &mut self.scores[first * group * SCORE_STRIDE + position - start..],
                    row_stride: SCORE_STRIDE,
                    accumulate: false,
                },
            );
        }
    }

    /// Copies the values of a segment into rows of whole vectors, if heads are not whole vectors.
    fn pad_values(&mut self, source: KeyValueView, segment: &Segment) {
        let GroupShape { head_dim, width, .. } = self.shape;
        if width == head_dim {
            return;
        }
        for (block, positions) in blocks_of(&segment.positions) {
            let values = &source.block_values(block)[positions.start % BLOCK_TOKENS * head_dim..];
            let values = &values[..positions.len() * head_dim];
            let to = &mut self.values[(positions.start - segment.start) * width..];
            pad_rows(values, head_dim, width, to);
        }
    }

    /// Adds the attention of some queries to a segment.
    fn attend_segment<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        source: KeyValueView,
        segment: &Segment,
        strip: Range<usize>,
        sums: &mut OnlineSoftmax,
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        let Segment { start, positions: ref segment_positions } = *segment;
        let clamp = |visible: Range<usize>| {
            let [from, to] = [visible.start, visible.end].map(|position| {
                position.clamp(segment_positions.start, segment_positions.end) - start
            });
            from..to
        };
        let positions = clamp(mask.visible_positions_of(strip.clone()));
        if positions.is_empty() {
            return;
        }
        let rows = strip.start * group..strip.end * group;
        let weights = &mut self.scores[rows.start * SCORE_STRIDE..rows.end * SCORE_STRIDE];
        let segment_sums = self.segment_sums.rows(0..rows.len(), width);
        segment_sums.values.fill(0.0);
        simd.vectorize(
            #[inline(always)]
            || {
                let visible = |row: usize| clamp(mask.visible_positions(strip.start + row / group));
                // All maxima first, then all weights: the exponentials of a row do not wait for its
                // maximum.
                for row in 0..rows.len() {
                    let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                    segment_sums.maxima[row] = row_max(simd, scores, visible(row), MASKED_SCORE);
                }
                for row in 0..rows.len() {
                    let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                    let max = segment_sums.maxima[row];
                    segment_sums.denominators[row] =
                        softmax_weights(simd, scores, visible(row), positions.clone(), max);
                }
            },
        );
        for (block, positions) in blocks_of(&(start + positions.start..start + positions.end)) {
            let values = if width == head_dim {
                &source.block_values(block)[positions.start % BLOCK_TOKENS * head_dim..]
            } else {
                &self.values[(positions.start - start) * width..]
            };
            matmul(
                simd,
                [rows.len(), positions.len(), width],
                MatrixView::new(&weights[positions.start - start..], SCORE_STRIDE),
                MatrixView::new(values, width),
                MatrixViewMut {
                    elements: segment_sums.values,
                    row_stride: width,
                    accumulate: true,
                },
            );
        }
        let mut sums = sums.rows(rows, width);
        simd.vectorize(
            #[inline(always)]
            || sums.combine(simd, &segment_sums, width),
        );
    }
}

/// The blocks that a range of positions is in, with their part of it.
pub fn blocks_of(positions: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let Range { start, end } = *positions;
    (start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS)).map(move |block| {
        let first = block * BLOCK_TOKENS;
        (block, start.max(first)..end.min(first + BLOCK_TOKENS))
    })
}
