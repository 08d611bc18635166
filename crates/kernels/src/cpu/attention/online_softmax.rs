//! Sums of the online softmax (arXiv 2205.14135): those of a segment of positions have the
//! segment's own maximum, and are added to those of the segments before it.
//!
//! Every path computes a row's sums in the same order, so that they do not depend on how the rows
//! of a pass are divided:
//!
//! ```text
//! positions │ segment 0: 0 to 191 │ segment 1: 192 to 383 │ ...
//! values    │ (v0 + v1 + ...) ────┼─► combine (v192 + ...)┼─► combine ...
//! ```

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

use super::group_shape::GroupShape;
use super::softmax::MASKED_SCORE;

/// Positions of a segment, whole blocks: segments start at multiples of it.
pub const SEGMENT: usize = 192;
/// Elements from a row of scores to the next: not a power of two, which would map all rows to the
/// same cache sets.
pub const SCORE_STRIDE: usize = SEGMENT + PANEL;

/// Sums over some positions, for some rows.
#[derive(Debug)]
pub struct OnlineSoftmax<'a> {
    /// Largest score of each row, `[rows]`.
    pub maxima: &'a mut [f32],
    /// Sum of the weights `e^(score - maximum)` of each row, `[rows]`.
    pub denominators: &'a mut [f32],
    /// Sums of weighted values, to be divided by the denominators: `[rows, width]`.
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

    /// Sums over no positions.
    pub fn reset(&mut self) {
        self.maxima.fill(MASKED_SCORE);
        self.denominators.fill(0.0);
        self.values.fill(0.0);
    }

    /// The sums of some rows.
    pub fn rows(&mut self, rows: Range<usize>, width: usize) -> OnlineSoftmax<'_> {
        OnlineSoftmax {
            maxima: &mut self.maxima[rows.clone()],
            denominators: &mut self.denominators[rows.clone()],
            values: &mut self.values[rows.start * width..rows.end * width],
        }
    }

    /// Adds the sums over the next segment. Those of a row that sees none of it change no bit.
    #[inline(always)]
    pub fn combine<S: Simd>(&mut self, simd: S, segment: &OnlineSoftmax, width: usize) {
        let rows = self.maxima.len();
        for first in (0..rows).step_by(S::LANES) {
            let count = S::LANES.min(rows - first);
            let lanes = first..first + count;
            let max = read_lanes(simd, &self.maxima[lanes.clone()]);
            let segment_max = read_lanes(simd, &segment.maxima[lanes.clone()]);
            let highest = simd.max(max, segment_max);
            // Not exactly 0 for a row without sums yet, which are 0 however.
            let before = simd.exp(simd.sub(max, highest));
            let now = simd.exp(simd.sub(segment_max, highest));
            let total = simd.mul(before, read_lanes(simd, &self.denominators[lanes.clone()]));
            let segment_total = read_lanes(simd, &segment.denominators[lanes.clone()]);
            let total = simd.mul_add(now, segment_total, total);
            self.maxima[lanes.clone()].copy_from_slice(&to_lanes(simd, highest)[..count]);
            self.denominators[lanes].copy_from_slice(&to_lanes(simd, total)[..count]);
            let factors = [to_lanes(simd, before), to_lanes(simd, now)];
            let sums = self.values[first * width..].chunks_exact_mut(width);
            let segment_sums = segment.values[first * width..].chunks_exact(width);
            for (i, (sums, segment_sums)) in sums.zip(segment_sums).take(count).enumerate() {
                let [before, now] = factors.map(|factors| simd.splat(factors[i]));
                let vectors = sums.chunks_exact_mut(S::LANES);
                for (sum, segment_sum) in vectors.zip(segment_sums.chunks_exact(S::LANES)) {
                    let before = simd.mul(before, simd.read(sum));
                    simd.write(sum, simd.mul_add(now, simd.read(segment_sum), before));
                }
            }
        }
    }
}

/// Up to `LANES` elements, padded with zeros.
#[inline(always)]
fn read_lanes<S: Simd>(simd: S, from: &[f32]) -> S::F {
    let mut lanes = [0.0; PANEL];
    lanes[..from.len()].copy_from_slice(from);
    simd.read(&lanes)
}

/// The elements of a vector.
#[inline(always)]
fn to_lanes<S: Simd>(simd: S, vector: S::F) -> [f32; PANEL] {
    let mut lanes = [0.0; PANEL];
    simd.write(&mut lanes, vector);
    lanes
}
