//! SwiGLU of rows that hold gate and up projections, and its gradient.

use super::elementwise::zip_into;
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{SharedSlice, for_each_row_block};

/// `silu(gate) * up`, row by row.
///
/// # Shapes
/// - `gate_up`: `[n, 2 * width]`, gates first
/// - `out`: `[n, width]`
///
/// # Panics
/// If lengths do not match.
pub fn swiglu(level: SimdLevel, gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(gate_up.len(), 2 * out.len(), "elements of gates and ups");
    assert!(out.len().is_multiple_of(width), "the output is not whole rows of {width}");
    let rows = out.len() / width;
    let out = SharedSlice::new(out);
    for_each_row_block(rows, width, |first, rows| {
        // SAFETY: the tasks' rows do not overlap.
        let out = unsafe { out.slice_mut(first * width, rows * width) };
        let gate_up = &gate_up[first * 2 * width..];
        dispatch!(level, simd => {
            for (gate_up, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = gate_up.split_at(width);
                zip_into(simd, out, [gate, up], #[inline(always)] |[gate, up]| {
                    simd.mul(simd.mul(gate, simd.sigmoid(gate)), up)
                });
            }
        });
    });
}

/// The gradient of the input of [`swiglu`], from the gradient of its output.
///
/// # Shapes
/// - `gate_up` and `d_both`: `[n, 2 * width]`
/// - `d_out`: `[n, width]`
///
/// # Panics
/// If lengths do not match.
pub fn swiglu_backward(
    level: SimdLevel,
    gate_up: &[f32],
    width: usize,
    d_out: &[f32],
    d_gate_up: &mut [f32],
) {
    assert_eq!([gate_up.len(), d_gate_up.len()], [2 * d_out.len(); 2], "elements of gates and ups");
    assert!(d_out.len().is_multiple_of(width), "the output is not whole rows of {width}");
    let d_gate_up = SharedSlice::new(d_gate_up);
    for_each_row_block(d_out.len() / width, width, |first, rows| {
        // SAFETY: the tasks' rows do not overlap.
        let d_gate_up = unsafe { d_gate_up.slice_mut(first * 2 * width, rows * 2 * width) };
        let (gate_up, d_out) = (&gate_up[first * 2 * width..], &d_out[first * width..]);
        dispatch!(level, simd => {
            let one = simd.splat(1.0);
            let rows = gate_up.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
            for ((gate_up, d_out), d_gate_up) in rows.zip(d_gate_up.chunks_exact_mut(2 * width)) {
                let (gate, up) = gate_up.split_at(width);
                let (d_gate, d_up) = d_gate_up.split_at_mut(width);
                zip_into(simd, d_up, [gate, d_out], #[inline(always)] |[gate, d_out]| {
                    simd.mul(simd.mul(gate, simd.sigmoid(gate)), d_out)
                });
                // The derivative of g·σ(g) is σ(g)·(1 + g·(1 - σ(g))).
                zip_into(simd, d_gate, [gate, up, d_out], #[inline(always)] |[gate, up, d_out]| {
                    let sigmoid = simd.sigmoid(gate);
                    let slope = simd.mul_add(gate, simd.sub(one, sigmoid), one);
                    simd.mul(simd.mul(d_out, up), simd.mul(sigmoid, slope))
                });
            }
        });
    });
}
