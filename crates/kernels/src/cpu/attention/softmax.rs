//! Online softmax: the sums so far are scaled down whenever a block of keys has a larger score.

use std::ops::Range;

use crate::cpu::simd::Simd;

/// Score of masked positions. Finite, so that differences of scores are not NaN.
pub const MASKED_SCORE: f32 = -1e30;

/// The maximum of the scores of the `visible` positions and `before`.
///
/// Masked positions in their first and last vectors are overwritten.
#[inline(always)]
pub fn row_max<S: Simd>(simd: S, row: &mut [f32], visible: Range<usize>, before: f32) -> f32 {
    if visible.is_empty() {
        return before;
    }
    let span = vector_span::<S>(&visible);
    row[span.start..visible.start].fill(MASKED_SCORE);
    row[visible.end..span.end].fill(MASKED_SCORE);
    let mut max = simd.splat(before);
    for vector in row[span].chunks_exact(S::LANES) {
        max = simd.max(simd.read(vector), max);
    }
    simd.reduce_max(max)
}

/// Replaces the scores of the `visible` positions, after [`row_max`], by weights `e^(score - max)`,
/// and those of the other `positions` by 0. Returns the sum of the weights.
#[inline(always)]
pub fn softmax_weights<S: Simd>(
    simd: S,
    row: &mut [f32],
    visible: Range<usize>,
    positions: Range<usize>,
    max: f32,
) -> f32 {
    if visible.is_empty() {
        row[positions].fill(0.0);
        return 0.0;
    }
    let max = simd.splat(max);
    let mut sum = simd.splat(0.0);
    for vector in row[vector_span::<S>(&visible)].chunks_exact_mut(S::LANES) {
        let weight = simd.exp(simd.sub(simd.read(vector), max));
        sum = simd.add(sum, weight);
        simd.write(vector, weight);
    }
    // The vectors' exponential of a masked score is not exactly 0.
    zero_masked(row, &visible, positions);
    simd.reduce_sum(sum)
}

/// The positions of all vectors that have visible positions.
#[inline(always)]
fn vector_span<S: Simd>(visible: &Range<usize>) -> Range<usize> {
    visible.start / S::LANES * S::LANES..visible.end.next_multiple_of(S::LANES)
}

/// Zeroes the `positions` that are not `visible`.
#[inline(always)]
fn zero_masked(row: &mut [f32], visible: &Range<usize>, positions: Range<usize>) {
    if positions.start < visible.start {
        row[positions.start..visible.start].fill(0.0);
    }
    if visible.end < positions.end {
        row[visible.end..positions.end].fill(0.0);
    }
}

/// Replaces the scores of the `visible` positions by weights `e^(score - lse)`, and the gradients
/// of the weights by those of the scores: `weight * (gradient - delta)`. Those of the other
/// `positions` become 0.
///
/// Masked positions in the first and last vectors are overwritten.
#[inline(always)]
pub fn softmax_weights_backward<S: Simd>(
    simd: S,
    row: &mut [f32],
    gradients: &mut [f32],
    visible: Range<usize>,
    positions: Range<usize>,
    [lse, delta]: [f32; 2],
) {
    if visible.is_empty() {
        row[positions.clone()].fill(0.0);
        gradients[positions].fill(0.0);
        return;
    }
    let span = vector_span::<S>(&visible);
    let (lse, delta) = (simd.splat(lse), simd.splat(delta));
    let scores = row[span.clone()].chunks_exact_mut(S::LANES);
    for (score, gradient) in scores.zip(gradients[span].chunks_exact_mut(S::LANES)) {
        let weight = simd.exp(simd.sub(simd.read(score), lse));
        simd.write(score, weight);
        simd.write(gradient, simd.mul(weight, simd.sub(simd.read(gradient), delta)));
    }
    zero_masked(row, &visible, positions.clone());
    zero_masked(gradients, &visible, positions);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{SimdLevel, dispatch};

    #[test]
    fn online_softmax_over_two_blocks_matches_full_softmax() {
        for level in SimdLevel::available() {
            let scores: [f32; 48] = std::array::from_fn(|i| (i * 7 % 11) as f32 - 3.0);
            let (mut first, mut second) = ([0.0; 32], [0.0; 32]);
            first[..24].copy_from_slice(&scores[..24]);
            second[..24].copy_from_slice(&scores[24..]);
            let (max, sum, factor) = dispatch!(level, simd => {
                let half = row_max(simd, &mut first, 3..24, MASKED_SCORE);
                let sum = softmax_weights(simd, &mut first, 3..24, 0..24, half);
                let max = row_max(simd, &mut second, 0..21, half);
                let factor = (half - max).exp();
                (max, factor * sum + softmax_weights(simd, &mut second, 0..21, 0..24, max), factor)
            });
            let expected_max = scores[3..45].iter().fold(f32::MIN, |a, b| a.max(*b));
            let expected: f32 = scores[3..45].iter().map(|score| (score - max).exp()).sum();
            assert_eq!(max, expected_max);
            assert!((sum - expected).abs() < 1e-5 * expected);
            for i in 0..48 {
                let weight = if i < 24 { first[i] * factor } else { second[i - 24] };
                let expected = if (3..45).contains(&i) { (scores[i] - max).exp() } else { 0.0 };
                assert!((weight - expected).abs() < 1e-6, "{level:?}, position {i}: {weight}");
            }
        }
    }
}
