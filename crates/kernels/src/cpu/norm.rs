//! Root-mean-square norm of rows, and the gradient of what went in.

use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{self, Shared};

/// Numbers of a task: enough to be worth one.
pub(super) const TASK: usize = 1 << 14;

/// Calls `work` with the first row and the number of rows of every task.
pub(super) fn by_rows(rows: usize, width: usize, work: impl Fn(usize, usize) + Sync) {
    let share = (TASK / width.max(1)).max(1);
    threads::for_each(rows.div_ceil(share), |task| {
        let first = task * share;
        work(first, share.min(rows - first));
    });
}

/// `x / sqrt(mean(x²) + epsilon) * weight`, row by row.
///
/// # Shapes
/// - `x` and `out`: `[n, width]`
/// - `weight`: `[width]`
///
/// # Panics
/// If lengths do not fit.
pub fn rms_norm(level: SimdLevel, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    assert_eq!(x.len(), out.len(), "numbers of the norm's output");
    assert!(x.len().is_multiple_of(width), "whole rows of {width}");
    let out = Shared::new(out);
    by_rows(x.len() / width, width, |first, rows| {
        let x = &x[first * width..][..rows * width];
        // SAFETY: each task has rows of its own.
        let out = unsafe { out.part(first * width, rows * width) };
        dispatch!(level, simd => {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let factor = 1.0 / (dot(simd, x, x, None) / width as f32 + epsilon).sqrt();
                let scale = simd.splat(factor);
                zip(simd, out, [x, weight], #[inline(always)] |[x, w]| simd.mul(simd.mul(x, scale), w));
            }
        });
    });
}

/// The gradient of [`rms_norm`]'s input, from that of its output.
///
/// # Shapes
/// - `x`, `d_out`, `d_x`: `[n, width]`
///
/// # Panics
/// If lengths do not fit.
pub fn rms_norm_backward(
    level: SimdLevel,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    d_out: &[f32],
    d_x: &mut [f32],
) {
    let width = weight.len();
    assert_eq!([x.len(), d_out.len()], [d_x.len(); 2], "numbers of the norm's gradient");
    assert!(x.len().is_multiple_of(width), "whole rows of {width}");
    let d_x = Shared::new(d_x);
    by_rows(x.len() / width, width, |first, rows| {
        let (x, d_out) = (&x[first * width..], &d_out[first * width..]);
        // SAFETY: each task has rows of its own.
        let d_x = unsafe { d_x.part(first * width, rows * width) };
        dispatch!(level, simd => {
            let rows = x.chunks_exact(width).zip(d_out.chunks_exact(width));
            for ((x, d_out), d_x) in rows.zip(d_x.chunks_exact_mut(width)) {
                let factor = 1.0 / (dot(simd, x, x, None) / width as f32 + epsilon).sqrt();
                let along = dot(simd, x, d_out, Some(weight)) / width as f32;
                let (scale, along) = (simd.splat(factor), simd.splat(-along * factor * factor * factor));
                zip(simd, d_x, [x, d_out, weight], #[inline(always)] |[x, d_out, w]| {
                    simd.mul_add(x, along, simd.mul(simd.mul(d_out, w), scale))
                });
            }
        });
    });
}

/// Adds one list of numbers to another.
///
/// # Panics
/// If they are not equally long.
pub fn add(level: SimdLevel, from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "numbers to add");
    let len = to.len();
    let to = Shared::new(to);
    threads::for_each(len.div_ceil(TASK), |task| {
        let (first, own) = (task * TASK, TASK.min(len - task * TASK));
        // SAFETY: each task has numbers of its own.
        let to = unsafe { to.part(first, own) };
        let from = &from[first..first + own];
        // The compiler makes vectors of it by itself, for whatever set it is inlined into.
        dispatch!(level, _simd => to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
    });
}

/// `Σ a b`, or `Σ a b weight`.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32], weight: Option<&[f32]>) -> f32 {
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
    simd.sum(sum) + (whole..a.len()).map(rest).sum::<f32>()
}

/// `values = work(values)`, number by number.
#[inline(always)]
pub(super) fn map<S: Simd>(simd: S, values: &mut [f32], work: impl Fn(S::F) -> S::F) {
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

/// `out = work(inputs)`, number by number.
#[inline(always)]
pub(super) fn zip<S: Simd, const N: usize>(
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
        // The rest in a vector of its own, filled up with ones.
        let mut rest = [[1.0_f32; 16]; N];
        for (rest, input) in rest.iter_mut().zip(inputs) {
            rest[..len - whole].copy_from_slice(&input[whole..]);
        }
        let mut last = [0.0_f32; 16];
        simd.write(&mut last, work(rest.map(|rest| simd.read(&rest))));
        out[whole..].copy_from_slice(&last[..len - whole]);
    }
}
