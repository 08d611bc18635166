//! Attention of a block of queries, a segment of positions at a time.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::sizes::{BLOCK_TOKENS, PANEL};

use super::group_shape::GroupShape;
use super::key_panels::pad_rows;
use super::kv_span::KeyValueView;
use super::mask::AttentionMask;
use super::matmul::{MatrixView, MatrixViewMut, OutMode, matmul, score_tile_positions, scores};
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
}

/// A segment that queries of a block attend to.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    mask: AttentionMask,
    source: KeyValueView<'a>,
    /// Start of the segment.
    start: usize,
    /// First position that a query attends to, and the end of these positions.
    visible: [usize; 2],
}

impl QueryBlock<'_> {
    /// Lengths of the buffers for scores and values.
    pub fn buffers(shape: GroupShape) -> [usize; 2] {
        let values = if shape.width == shape.head_dim { 0 } else { SEGMENT * shape.width };
        [shape.queries() * shape.group * SCORE_STRIDE, values]
    }

    /// Computes `sums` over all positions that the queries attend to. `segment_sums` is a buffer of
    /// the same size.
    pub fn attend<S: Simd>(
        &mut self,
        simd: S,
        mask: AttentionMask,
        source: KeyValueView,
        sums: &mut OnlineSoftmax,
        segment_sums: &mut OnlineSoftmax,
    ) {
        let GroupShape { width, group, .. } = self.shape;
        sums.reset();
        let queries = self.queries();
        let step = self.shape.queries_per_tile::<S>();
        let visible = mask.visible_positions_of(0..queries);
        let first_start = visible.start / SEGMENT * SEGMENT;
        for start in (first_start..visible.end).step_by(SEGMENT) {
            let visible = [visible.start.max(start), visible.end.min(start + SEGMENT)];
            let segment = Segment { mask, source, start, visible };
            self.compute_scores(simd, segment);
            self.pad_values(segment);
            for first in (0..queries).step_by(step) {
                let strip = first..queries.min(first + step);
                let rows = strip.start * group..strip.end * group;
                let mut sums = sums.rows(rows.clone(), width);
                // Sums over no positions, combined with those of a segment, are equal to the latter.
                if start == first_start {
                    self.add_up(simd, segment, strip, &mut sums);
                    continue;
                }
                let mut segment_sums = segment_sums.rows(rows, width);
                segment_sums.values.fill(0.0);
                if self.add_up(simd, segment, strip, &mut segment_sums) {
                    simd.vectorize(
                        #[inline(always)]
                        || sums.combine(simd, &segment_sums, width),
                    );
                }
            }
        }
    }

    fn queries(&self) -> usize {
        self.query.len() / (self.shape.group * self.shape.head_dim)
    }

    /// Computes the scores of a segment, for the queries that attend to it.
    fn compute_scores<S: Simd>(&mut self, simd: S, segment: Segment) {
        let GroupShape { head_dim, group, .. } = self.shape;
        let queries = self.queries();
        let step = self.shape.queries_per_tile::<S>();
        let Segment { mask, source, start, visible: [from, to] } = segment;
        // A tile is in one block.
        let tile = score_tile_positions::<S>();
        let end = to.next_multiple_of(PANEL);
        for position in (from / tile * tile..end).step_by(tile) {
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
                    mode: OutMode::Overwrite,
                },
            );
        }
    }

    /// Copies the values of a segment into rows of whole vectors, if heads are not whole vectors.
    fn pad_values(&mut self, segment: Segment) {
        let GroupShape { head_dim, width, .. } = self.shape;
        if width == head_dim {
            return;
        }
        let Segment { source, start, visible: [from, to], .. } = segment;
        for (positions, values) in source.value_runs(from..to) {
            pad_rows(
                values,
                head_dim,
                width,
                &mut self.values[(positions.start - start) * width..],
            );
        }
    }

    /// Computes the sums over a segment for some queries; the values' sums are 0 before. Returns
    /// false, without sums, if no query attends to the segment.
    fn add_up<S: Simd>(
        &mut self,
        simd: S,
        segment: Segment,
        strip: Range<usize>,
        sums: &mut OnlineSoftmax,
    ) -> bool {
        let GroupShape { head_dim, width, group } = self.shape;
        let Segment { mask, source, start, visible: [from, to] } = segment;
        // Relative to the segment.
        let in_segment = |positions: Range<usize>| {
            positions.start.clamp(from, to) - start..positions.end.clamp(from, to) - start
        };
        let positions = in_segment(mask.visible_positions_of(strip.clone()));
        if positions.is_empty() {
            return false;
        }
        let rows = strip.len() * group;
        let weights = &mut self.scores[strip.start * group * SCORE_STRIDE..];
        simd.vectorize(
            #[inline(always)]
            || {
                let visible =
                    |row: usize| in_segment(mask.visible_positions(strip.start + row / group));
                // All maxima first, then all weights: the exponentials of a row do not wait for its
                // maximum.
                for row in 0..rows {
                    let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                    sums.maxima[row] = row_max(simd, scores, visible(row), MASKED_SCORE);
                }
                for row in 0..rows {
                    let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                    let max = sums.maxima[row];
                    sums.denominators[row] =
                        softmax_weights(simd, scores, visible(row), positions.clone(), max);
                }
            },
        );
        let mut add_values = |positions: Range<usize>, values: MatrixView| {
            matmul(
                simd,
                [rows, positions.len(), width],
                MatrixView::new(&weights[positions.start..], SCORE_STRIDE),
                values,
                MatrixViewMut { elements: sums.values, row_stride: width, mode: OutMode::Continue },
            );
        };
        if width == head_dim {
            for (run, values) in source.value_runs(start + positions.start..start + positions.end) {
                add_values(run.start - start..run.end - start, MatrixView::new(values, width));
            }
        } else {
            let values = MatrixView::new(&self.values[positions.start * width..], width);
            add_values(positions, values);
        }
        true
    }
}
