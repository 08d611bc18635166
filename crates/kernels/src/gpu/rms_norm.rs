//! Root-mean-square norm of rows, and the gradient of its input: one cube a row.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum::{ROW_UNITS, cube_sum};
use super::launch::cube_count;
use super::tensors::{buffer, empty_like};

/// `x / sqrt(mean(x²) + epsilon) * weight`.
///
/// # Shapes
/// - `x` and output: `[..., width]`
/// - `weight`: `[width]`
pub(super) fn rms_norm(x: &CubeTensor, weight: &CubeTensor, epsilon: f32) -> CubeTensor {
    let out = empty_like(x);
    let (rows, width) = rows_and_width(x, weight);
    if rows == 0 {
        return out;
    }
    // SAFETY: the kernel reads and writes `rows` rows of `width` elements, which the tensors have.
    unsafe {
        rms_norm_kernel::launch_unchecked(
            &x.client,
            cube_count(rows),
            CubeDim::new_1d(ROW_UNITS as u32),
            buffer(x),
            buffer(weight),
            buffer(&out),
            rows as u32,
            width as u32,
            epsilon,
        );
    }
    out
}

/// The gradient of the input of [`rms_norm`], from the gradient of its output.
pub(super) fn rms_norm_backward(
    x: &CubeTensor,
    weight: &CubeTensor,
    epsilon: f32,
    d_out: &CubeTensor,
) -> CubeTensor {
    let d_x = empty_like(x);
    let (rows, width) = rows_and_width(x, weight);
    if rows == 0 {
        return d_x;
    }
    // SAFETY: as in `rms_norm`; `d_out` has the shape of `x`.
    unsafe {
        rms_norm_backward_kernel::launch_unchecked(
            &x.client,
            cube_count(rows),
            CubeDim::new_1d(ROW_UNITS as u32),
            buffer(x),
            buffer(weight),
            buffer(d_out),
            buffer(&d_x),
            rows as u32,
            width as u32,
            epsilon,
        );
    }
    d_x
}

fn rows_and_width(x: &CubeTensor, weight: &CubeTensor) -> (usize, usize) {
    let (elements, width) = (x.meta.num_elements(), weight.meta.num_elements());
    assert!(elements.is_multiple_of(width), "the input is not whole rows of {width}");
    (elements / width, width)
}

#[cube(launch_unchecked)]
fn rms_norm_kernel(
    x: &[f32],
    weight: &[f32],
    out: &mut [f32],
    rows: u32,
    width: u32,
    epsilon: f32,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(2 * ROW_UNITS);
    let (width, first) = (width as usize, row * width as usize);

    let mut squares = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        let value = x[first + column];
        squares += value * value;
        column += ROW_UNITS;
    }
    let squares = cube_sum(squares, &mut scratch, 0usize, ROW_UNITS);
    let factor = 1.0f32 / (squares / width as f32 + epsilon).sqrt();

    let mut column = UNIT_POS as usize;
    while column < width {
        out[first + column] = x[first + column] * factor * weight[column];
        column += ROW_UNITS;
    }
}

#[cube(launch_unchecked)]
fn rms_norm_backward_kernel(
    x: &[f32],
    weight: &[f32],
    d_out: &[f32],
    d_x: &mut [f32],
    rows: u32,
    width: u32,
    epsilon: f32,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(2 * ROW_UNITS);
    let (width, first) = (width as usize, row * width as usize);

    let mut squares = 0.0f32;
    let mut products = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        let value = x[first + column];
        squares += value * value;
        products += value * d_out[first + column] * weight[column];
        column += ROW_UNITS;
    }
    let squares = cube_sum(squares, &mut scratch, 0usize, ROW_UNITS);
    let products = cube_sum(products, &mut scratch, 1usize, ROW_UNITS);
    let factor = 1.0f32 / (squares / width as f32 + epsilon).sqrt();
    let projection = products / width as f32 * factor * factor * factor;

    let mut column = UNIT_POS as usize;
    while column < width {
        d_x[first + column] =
            d_out[first + column] * weight[column] * factor - x[first + column] * projection;
        column += ROW_UNITS;
    }
}
