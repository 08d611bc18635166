//! `silu(gate) * up` of rows that hold both, and its gradient.

use super::norm::{by_rows, zip};
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::Shared;

/// `silu(gate) * up`, row by row.
///
/// # Shapes
/// - `both`: `[n, 2 * width]`, gates first
/// - `out`: `[n, width]`
///
/// # Panics
/// If lengths do not fit.
pub fn swiglu(level: SimdLevel, both: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(both.len(), 2 * out.len(), "numbers of gates and ups");
    assert!(out.len().is_multiple_of(width), "whole rows of {width}");
    let rows = out.len() / width;
    let out = Shared::new(out);
    by_rows(rows, width, |first, rows| {
        // SAFETY: each task has rows of its own.
        let out = unsafe { out.part(first * width, rows * width) };
        let both = &both[first * 2 * width..];
        dispatch!(level, simd => {
            for (both, out) in both.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = both.split_at(width);
                zip(simd, out, [gate, up], #[inline(always)] |[gate, up]| {
                    simd.mul(simd.mul(gate, simd.sigmoid(gate)), up)
                });
            }
        });
    });
}

/// The gradient of [`swiglu`]'s input, from that of its output.
///
/// # Shapes
/// - `both` and `d_both`: `[n, 2 * width]`
/// - `d_out`: `[n, width]`
///
/// # Panics
/// If lengths do not fit.
pub fn swiglu_backward(
    level: SimdLevel,
    both: &[f32],
    width: usize,
    d_out: &[f32],
    d_both: &mut [f32],
) {
    assert_eq!([both.len(), d_both.len()], [2 * d_out.len(); 2], "numbers of gates and ups");
    assert!(d_out.len().is_multiple_of(width), "whole rows of {width}");
    let d_both = Shared::new(d_both);
    by_rows(d_out.len() / width, width, |first, rows| {
        // SAFETY: each task has rows of its own.
        let d_both = unsafe { d_both.part(first * 2 * width, rows * 2 * width) };
        let (both, d_out) = (&both[first * 2 * width..], &d_out[first * width..]);
        dispatch!(level, simd => {
            let one = simd.splat(1.0);
            let rows = both.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
            for ((both, d_out), d_both) in rows.zip(d_both.chunks_exact_mut(2 * width)) {
                let (gate, up) = both.split_at(width);
                let (d_gate, d_up) = d_both.split_at_mut(width);
                zip(simd, d_up, [gate, d_out], #[inline(always)] |[gate, d_out]| {
                    simd.mul(simd.mul(gate, simd.sigmoid(gate)), d_out)
                });
                // The derivative of g·σ(g) is σ(g)·(1 + g·(1 - σ(g))).
                zip(simd, d_gate, [gate, up, d_out], #[inline(always)] |[gate, up, d_out]| {
                    let sigmoid = simd.sigmoid(gate);
                    let slope = simd.mul_add(gate, simd.sub(one, sigmoid), one);
                    simd.mul(simd.mul(d_out, up), simd.mul(sigmoid, slope))
                });
            }
        });
    });
}
