//! A block of queries attends to the keys it sees, a block of them at a time.

use crate::cpu::simd::Simd;

use super::{
    AttentionDims, PANEL,
    matrix::{Matrix, MatrixViewMut, multiply, score_tile_positions, scores},
    pack::widen,
    sight::Sight,
    softmax::{MASKED_SCORE, highest, scale, weigh},
};

/// Most rows of a block: query heads times queries.
const ROWS: usize = 96;
/// Slots in a block of keys.
const SLOTS: usize = 192;
/// From a row of scores to the next: rows of a power of two would fall into the same cache sets.
const SCORE_STRIDE: usize = SLOTS + PANEL;

/// Keys and values of one key head.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Panels of 16 slots, `[slots / 16, head_dim, 16]`.
    pub keys: &'a [f32],
    /// `[slots, head_dim]`
    pub values: &'a [f32],
}

/// Width of a head, and query heads that share keys.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Width of a head.
    pub head_dim: usize,
    /// `head_dim` in whole vectors.
    pub width: usize,
    /// Query heads that share keys.
    pub group: usize,
}

impl Shape {
    /// Shape for one instruction set.
    pub fn new<S: Simd>(heads: AttentionDims) -> Self {
        let head_dim = heads.head_dim;
        Self { head_dim, width: head_dim.next_multiple_of(S::LANES), group: heads.group() }
    }

    /// Queries in a block.
    pub fn queries(self) -> usize {
        (ROWS / self.group).max(1)
    }

    /// Numbers in the buffers of a [`Block`]: scores, values.
    pub fn buffers(self) -> [usize; 2] {
        let values = if self.width == self.head_dim { 0 } else { SLOTS * self.width };
        [self.queries() * self.group * SCORE_STRIDE, values]
    }

    /// Queries whose rows are whole tiles of the micro-kernel.
    pub fn strip<S: Simd>(self) -> usize {
        let tile = S::ROWS;
        (1..tile).find(|queries| (queries * self.group).is_multiple_of(tile)).unwrap_or(tile)
    }
}

/// Queries, and the buffers that their attention is computed in.
#[derive(Debug)]
pub struct Block<'a> {
    /// Shape of the heads.
    pub shape: Shape,
    /// Scaled queries, `[queries, group, head_dim]`.
    pub query: &'a [f32],
    /// Room for scores.
    pub scores: &'a mut [f32],
    /// Room for values in whole vectors, if heads are not.
    pub values: &'a mut [f32],
}

/// What the queries of a block have seen.
#[derive(Debug)]
pub struct Sums<'a> {
    /// Largest score of each row, `[queries, group]`.
    pub tops: &'a mut [f32],
    /// Sum of weights `e^(score - top)` of each row, `[queries, group]`.
    pub totals: &'a mut [f32],
    /// Sums of weighted values, to be divided by the total: `[queries, group, width]`.
    pub values: &'a mut [f32],
}

impl<'a> Sums<'a> {
    /// Lengths of the buffers for so many rows.
    pub fn buffers(shape: Shape, rows: usize) -> [usize; 3] {
        [rows, rows, rows * shape.width]
    }

    /// Sums in these buffers.
    pub fn new([tops, totals, values]: [&'a mut [f32]; 3]) -> Self {
        Self { tops, totals, values }
    }
}

impl Block<'_> {
    /// Sums up all slots that the queries see.
    pub fn attend<S: Simd>(&mut self, simd: S, sight: Sight, source: Source, sums: &mut Sums) {
        let Shape { head_dim, width, group } = self.shape;
        sums.values.fill(0.0);
        sums.tops.fill(MASKED_SCORE);
        sums.totals.fill(0.0);
        let queries = self.queries();
        let seen = sight.visible_positions_of(0..queries);
        let mut start = seen.start / PANEL * PANEL;
        while start < seen.end {
            let end = seen.end.min(start + SLOTS);
            self.score(simd, sight, source.keys, start, end);
            let mut values = Matrix::new(&source.values[start * head_dim..], head_dim);
            if width != head_dim {
                let rows = &values.numbers[..(end - start) * head_dim];
                widen(rows, head_dim, width, self.values);
                values = Matrix::new(self.values, width);
            }
            let step = self.shape.strip::<S>();
            for first in (0..queries).step_by(step) {
                let strip = first..queries.min(first + step);
                let slots = sight.visible_positions_of(strip.clone());
                let slots = slots.start.max(start)..slots.end.min(end);
                if slots.is_empty() {
                    continue;
                }
                let slots = slots.start - start..slots.end - start;
                let rows = strip.start * group..strip.end * group;
                let weights = &mut self.scores[rows.start * SCORE_STRIDE..rows.end * SCORE_STRIDE];
                let tops = &mut sums.tops[rows.clone()];
                let totals = &mut sums.totals[rows.clone()];
                let sums = &mut sums.values[rows.start * width..rows.end * width];
                simd.vectorize(
                    #[inline(always)]
                    || {
                        let seen = |row: usize| {
                            let seen = sight.slots(strip.start + row / group);
                            let [from, to] =
                                [seen.start, seen.end].map(|slot| slot.clamp(start, end) - start);
                            from..to
                        };
                        // Row by row one after the other, not both at once: exponentials need not
                        // wait for a row's largest score.
                        for row in 0..rows.len() {
                            let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                            let top = highest(simd, scores, seen(row), tops[row]);
                            if totals[row] != 0.0 && top != tops[row] {
                                let factor = (tops[row] - top).exp();
                                totals[row] *= factor;
                                scale(simd, &mut sums[row * width..][..width], factor);
                            }
                            tops[row] = top;
                        }
                        for row in 0..rows.len() {
                            let scores = &mut weights[row * SCORE_STRIDE..][..SCORE_STRIDE];
                            totals[row] += weigh(simd, scores, seen(row), slots.clone(), tops[row]);
                        }
                    },
                );
                multiply(
                    simd,
                    [rows.len(), slots.len(), width],
                    Matrix::new(&weights[slots.start..], SCORE_STRIDE),
                    Matrix { numbers: &values.numbers[slots.start * values.row..], ..values },
                    MatrixViewMut { numbers: sums, row: width, add: true },
                );
            }
            start += SLOTS;
        }
    }

    fn queries(&self) -> usize {
        self.query.len() / (self.shape.group * self.shape.head_dim)
    }

    /// Scores of the slots from `start` to `end`, as far as any query sees them.
    fn score<S: Simd>(&mut self, simd: S, sight: Sight, keys: &[f32], start: usize, end: usize) {
        let Shape { head_dim, group, .. } = self.shape;
        let queries = self.queries();
        let step = self.shape.strip::<S>();
        let end = end.next_multiple_of(PANEL);
        for slot in (start..end).step_by(score_tile_positions::<S>()) {
            let slots = slot..end.min(slot + score_tile_positions::<S>());
            let by = sight.queries(slots.clone(), queries);
            let (first, last) = (by.start / step * step, by.end);
            if first >= last {
                continue;
            }
            scores(
                simd,
                (last - first) * group,
                head_dim,
                Matrix::new(&self.query[first * group * head_dim..], head_dim),
                &keys[slots.start * head_dim..slots.end * head_dim],
                MatrixViewMut {
                    numbers: &mut self.scores[first * group * SCORE_STRIDE + slot - start..],
                    row: SCORE_STRIDE,
                    add: false,
                },
            );
        }
    }
}
