//! Root-mean-square norm of rows, and the gradient of its input.

use super::elementwise::{dot, zip_into};
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{SharedSlice, for_each_row_block};

/// `x / sqrt(mean(x²) + epsilon) * weight`, row by row.
///
/// # Shapes
/// - `x` and `out`: `[n, width]`
/// - `weight`: `[width]`
///
/// # Panics
/// If lengths do not match.
pub fn rms_norm(level: SimdLevel, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    assert_eq!(x.len(), out.len(), "elements of the norm's output");
    assert!(x.len().is_multiple_of(width), "the input is not whole rows of {width}");
    let out = SharedSlice::new(out);
    for_each_row_block(x.len() / width, width, |first, rows| {
        let x = &x[first * width..][..rows * width];
        // SAFETY: the tasks' rows do not overlap.
        let out = unsafe { out.slice_mut(first * width, rows * width) };
        dispatch!(level, simd => {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                let factor = 1.0 / (dot(simd, x, x, None) / width as f32 + epsilon).sqrt();
                let scale = simd.splat(factor);
                zip_into(simd, out, [x, weight], #[inline(always)] |[x, w]| simd.mul(simd.mul(x, scale), w));
            }
        });
    });
}

/// The gradient of the input of [`rms_norm`], from the gradient of its output.
///
/// # Shapes
/// - `x`, `d_out`, `d_x`: `[n, width]`
/// - `weight`: `[width]`
///
/// # Panics
/// If lengths do not match.
pub fn rms_norm_backward(
    level: SimdLevel,
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    d_out: &[f32],
    d_x: &mut [f32],
) {
    let width = weight.len();
    assert_eq!([x.len(), d_out.len()], [d_x.len(); 2], "elements of the norm's gradient");
    assert!(x.len().is_multiple_of(width), "the input is not whole rows of {width}");
    let d_x = SharedSlice::new(d_x);
    for_each_row_block(x.len() / width, width, |first, rows| {
        let (x, d_out) = (&x[first * width..], &d_out[first * width..]);
        // SAFETY: the tasks' rows do not overlap.
        let d_x = unsafe { d_x.slice_mut(first * width, rows * width) };
        dispatch!(level, simd => {
            let rows = x.chunks_exact(width).zip(d_out.chunks_exact(width));
            for ((x, d_out), d_x) in rows.zip(d_x.chunks_exact_mut(width)) {
                let factor = 1.0 / (dot(simd, x, x, None) / width as f32 + epsilon).sqrt();
                let projection = dot(simd, x, d_out, Some(weight)) / width as f32;
                let (scale, projection) = (simd.splat(factor), simd.splat(-projection * factor * factor * factor));
                zip_into(simd, d_x, [x, d_out, weight], #[inline(always)] |[x, d_out, w]| {
                    simd.mul_add(x, projection, simd.mul(simd.mul(d_out, w), scale))
                });
            }
        });
    });
}
