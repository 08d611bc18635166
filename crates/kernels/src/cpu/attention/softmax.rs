//! Softmax that goes on from block to block of keys: what was summed up so far is scaled down
//! whenever a larger score turns up.

use std::ops::Range;

use crate::cpu::simd::Simd;

/// Stands for the score of a slot that is not seen. Not infinite: differences stay numbers.
pub const MASKED_SCORE: f32 = -1e30;

/// The largest score of the `seen` slots and `before`.
///
/// The rest of their first and last vectors is overwritten.
#[inline(always)]
pub fn highest<S: Simd>(simd: S, row: &mut [f32], seen: Range<usize>, before: f32) -> f32 {
    if seen.is_empty() {
        return before;
    }
    let vectors = vectors::<S>(&seen);
    row[vectors.start..seen.start].fill(MASKED_SCORE);
    row[seen.end..vectors.end].fill(MASKED_SCORE);
    let mut top = simd.splat(before);
    for vector in row[vectors].chunks_exact(S::LANES) {
        top = simd.max(simd.read(vector), top);
    }
    simd.largest(top)
}

/// Turns the scores of the `seen` slots, after [`highest`], into weights `e^(score - top)`, those
/// of the other `slots` into 0, and gives their sum.
#[inline(always)]
pub fn weigh<S: Simd>(
    simd: S,
    row: &mut [f32],
    seen: Range<usize>,
    slots: Range<usize>,
    top: f32,
) -> f32 {
    if seen.is_empty() {
        row[slots].fill(0.0);
        return 0.0;
    }
    let top = simd.splat(top);
    let mut sum = simd.splat(0.0);
    for vector in row[vectors::<S>(&seen)].chunks_exact_mut(S::LANES) {
        let weight = simd.exp(simd.sub(simd.read(vector), top));
        sum = simd.add(sum, weight);
        simd.write(vector, weight);
    }
    // A vector's exponential of an unseen score is only nearly 0.
    clear_unseen(row, &seen, slots);
    simd.sum(sum)
}

/// The slots whose vectors hold any that are seen.
#[inline(always)]
fn vectors<S: Simd>(seen: &Range<usize>) -> Range<usize> {
    seen.start / S::LANES * S::LANES..seen.end.next_multiple_of(S::LANES)
}

#[inline(always)]
fn clear_unseen(row: &mut [f32], seen: &Range<usize>, slots: Range<usize>) {
    if slots.start < seen.start {
        row[slots.start..seen.start].fill(0.0);
    }
    if seen.end < slots.end {
        row[seen.end..slots.end].fill(0.0);
    }
}

/// Turns the scores of the `seen` slots into their weights `e^(score - lse)`, and the gradients of
/// the weights into those of the scores; those of the other `slots` into 0.
///
/// Whole vectors around the `seen` slots are overwritten.
#[inline(always)]
pub fn softmax_weights_backward<S: Simd>(
    simd: S,
    row: &mut [f32],
    gradients: &mut [f32],
    seen: Range<usize>,
    slots: Range<usize>,
    [lse, delta]: [f32; 2],
) {
    if seen.is_empty() {
        row[slots.clone()].fill(0.0);
        gradients[slots].fill(0.0);
        return;
    }
    let vectors = vectors::<S>(&seen);
    let (lse, delta) = (simd.splat(lse), simd.splat(delta));
    let scores = row[vectors.clone()].chunks_exact_mut(S::LANES);
    for (score, gradient) in scores.zip(gradients[vectors].chunks_exact_mut(S::LANES)) {
        let weight = simd.exp(simd.sub(simd.read(score), lse));
        simd.write(score, weight);
        simd.write(gradient, simd.mul(weight, simd.sub(simd.read(gradient), delta)));
    }
    clear_unseen(row, &seen, slots.clone());
    clear_unseen(gradients, &seen, slots);
}

/// `row *= factor`, whole vectors.
#[inline(always)]
pub fn scale<S: Simd>(simd: S, row: &mut [f32], factor: f32) {
    let factor = simd.splat(factor);
    for vector in row.chunks_exact_mut(S::LANES) {
        simd.write(vector, simd.mul(simd.read(vector), factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{SimdLevel, dispatch};

    #[test]
    fn two_blocks_make_the_softmax_of_all() {
        for level in SimdLevel::available() {
            let scores: [f32; 48] = std::array::from_fn(|i| (i * 7 % 11) as f32 - 3.0);
            let (mut first, mut second) = ([0.0; 32], [0.0; 32]);
            first[..24].copy_from_slice(&scores[..24]);
            second[..24].copy_from_slice(&scores[24..]);
            let (highest, sum, factor) = dispatch!(level, simd => {
                let half = highest(simd, &mut first, 3..24, MASKED_SCORE);
                let sum = weigh(simd, &mut first, 3..24, 0..24, half);
                let top = highest(simd, &mut second, 0..21, half);
                let factor = (half - top).exp();
                (top, factor * sum + weigh(simd, &mut second, 0..21, 0..24, top), factor)
            });
            let top = scores[3..45].iter().fold(f32::MIN, |a, b| a.max(*b));
            let right: f32 = scores[3..45].iter().map(|score| (score - top).exp()).sum();
            assert_eq!(highest, top);
            assert!((sum - right).abs() < 1e-5 * right);
            for i in 0..48 {
                let weight = if i < 24 { first[i] * factor } else { second[i - 24] };
                let right = if (3..45).contains(&i) { (scores[i] - top).exp() } else { 0.0 };
                assert!((weight - right).abs() < 1e-6, "{level:?}, slot {i}: {weight}");
            }
        }
    }
}
