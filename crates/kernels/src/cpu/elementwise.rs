//! Elementwise operations and dot products on slices.

use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{self, ELEMENTS_PER_TASK, SharedSlice};

/// `to += from`, in parallel.
///
/// # Panics
/// If the slices differ in length.
pub fn add_assign(level: SimdLevel, from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "the slices differ in length");
    let len = to.len();
    let to = SharedSlice::new(to);
    threads::parallel_for(len.div_ceil(ELEMENTS_PER_TASK), |task| {
        let first = task * ELEMENTS_PER_TASK;
        let task_len = ELEMENTS_PER_TASK.min(len - first);
        // SAFETY: the tasks' ranges do not overlap.
        let to = unsafe { to.slice_mut(first, task_len) };
        let from = &from[first..first + task_len];
        // The compiler vectorizes the loop for the instruction set that it is inlined into.
        dispatch!(level, _simd => to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
    });
}

/// `Σ a b`, or `Σ a b weight`.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32], weight: Option<&[f32]>) -> f32 {
    let whole = a.len() / S::LANES * S::LANES;
    let mut sum = simd.splat(0.0);
    for at in (0..whole).step_by(S::LANES) {
        let b = simd.read(&b[at..]);
        let b = match weight {
            Some(weight) => simd.mul(b, simd.read(&weight[at..])),
            None => b,
        };
        sum = simd.mul_add(simd.read(&a[at..]), b, sum);
    }
    let rest = |at: usize| a[at] * b[at] * weight.map_or(1.0, |weight| weight[at]);
    simd.reduce_sum(sum) + (whole..a.len()).map(rest).sum::<f32>()
}

/// `values = work(values)`, elementwise.
#[inline(always)]
pub(super) fn map_inplace<S: Simd>(simd: S, values: &mut [f32], work: impl Fn(S::F) -> S::F) {
    let mut parts = values.chunks_exact_mut(S::LANES);
    for part in &mut parts {
        let value = work(simd.read(part));
        simd.write(part, value);
    }
    let rest = parts.into_remainder();
    let mut last = [1.0_f32; 16];
    last[..rest.len()].copy_from_slice(rest);
    let value = work(simd.read(&last));
    simd.write(&mut last, value);
    rest.copy_from_slice(&last[..rest.len()]);
}

/// `out = work(inputs)`, elementwise.
#[inline(always)]
pub(super) fn zip_into<S: Simd, const N: usize>(
    simd: S,
    out: &mut [f32],
    inputs: [&[f32]; N],
    work: impl Fn([S::F; N]) -> S::F,
) {
    let len = out.len();
    let inputs = inputs.map(|input| &input[..len]);
    let whole = len / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        simd.write(&mut out[at..], work(inputs.map(|input| simd.read(&input[at..]))));
    }
    if whole < len {
        // The rest in one more vector, padded with ones.
        let mut rest = [[1.0_f32; 16]; N];
        for (rest, input) in rest.iter_mut().zip(inputs) {
            rest[..len - whole].copy_from_slice(&input[whole..]);
        }
        let mut last = [0.0_f32; 16];
        simd.write(&mut last, work(rest.map(|rest| simd.read(&rest))));
        out[whole..].copy_from_slice(&last[..len - whole]);
    }
}

/// `to = factor * from`
#[inline(always)]
pub(super) fn scale_into<S: Simd>(simd: S, from: &[f32], factor: f32, to: &mut [f32]) {
    let factor_vector = simd.splat(factor);
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        simd.write(to, simd.mul(simd.read(from), factor_vector));
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to = factor * from;
    }
}

/// `to += factor * from`
#[inline(always)]
pub(super) fn add_scaled<S: Simd>(simd: S, from: &[f32], factor: f32, to: &mut [f32]) {
    let factor_vector = simd.splat(factor);
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        simd.write(to, simd.mul_add(simd.read(from), factor_vector, simd.read(to)));
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to += factor * from;
    }
}
