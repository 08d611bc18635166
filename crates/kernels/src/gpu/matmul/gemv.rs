//! `x · Wᵀ` for few rows of `x`, as in decoding.
//!
//! ```text
//! workgroup: 4 groups of 32 lanes       a group has some rows of the matrix, its lanes their columns
//! lane:      pieces lane, lane + 32, …  unpacked once for all rows of x, summed in registers
//! then:      the 32 sums of a group are added in shared memory, in an order that does not depend on
//!            the number of rows: a row of a small batch has the same result as alone
//! ```

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::device_matrix::DeviceMatrix;
use super::words::{Format, MatrixDims, unpack_piece};
use crate::gpu::tensors::{buffer, dims};

/// Rows of the input at most.
pub(super) const MAX_ROWS: usize = 8;

const LANES: usize = 32;
const GROUPS: usize = 4;
/// Lanes whose sums are added first.
const PART: usize = 4;

#[cube(launch_unchecked)]
fn gemv<X: Size>(
    input: &[Vector<f32, X>],
    words: &[u32],
    residual: &[f32],
    out: &mut [f32],
    dims: &MatrixDims,
    n: u32,
    rows: u32,
    columns: u32,
    out_width: u32,
    out_column: u32,
    #[comptime] format: Format,
    #[comptime] batch: usize,
    #[comptime] rows_of_group: usize,
    #[comptime] add_residual: bool,
    #[define(X)] _input_vector: usize,
) {
    let lane = UNIT_POS_X;
    let group = UNIT_POS_Y;
    let first_row =
        (CUBE_POS_X * comptime!(GROUPS as u32) + group) * comptime!(rows_of_group as u32);
    let n_sums = comptime!(rows_of_group * batch);
    let mut sums = Array::<f32>::new(n_sums);
    #[unroll]
    for s in 0..n_sums {
        sums[s] = 0.0f32;
    }
    let vector = X::value();
    let mut piece = lane;
    while piece < dims.pieces {
        let mut x = Array::<f32>::new(comptime!(batch * 8));
        #[unroll]
        for b in 0..batch {
            let row = min(comptime!(b as u32), n - 1u32);
            #[unroll]
            for v in 0..comptime!(8 / vector) {
                let column = piece * 8u32 + comptime!((v * vector) as u32);
                // A matrix with padded columns is read one by one.
                let inside = column < columns;
                let at = (row * columns + select(inside, column, 0u32)) / comptime!(vector as u32);
                let values = input[at as usize];
                #[unroll]
                for l in 0..vector {
                    let value = select(inside, values.extract(l), 0.0f32);
                    x[comptime!(b * 8 + v * vector + l)] = value;
                }
            }
        }
        #[unroll]
        for r in 0..rows_of_group {
            let row = min(first_row + comptime!(r as u32), rows - 1u32);
            let weights = unpack_piece(words, dims, row, piece, format);
            #[unroll]
            for b in 0..batch {
                let mut sum = sums[comptime!(r * batch + b)];
                #[unroll]
                for i in 0..8usize {
                    sum += x[comptime!(b * 8 + i)] * weights[i];
                }
                sums[comptime!(r * batch + b)] = sum;
            }
        }
        piece += comptime!(LANES as u32);
    }

    let mut shared = Shared::<[f32]>::new_slice(comptime!(GROUPS * n_sums * LANES));
    let group_start = group as usize * comptime!(n_sums * LANES);
    #[unroll]
    for s in 0..n_sums {
        shared[group_start + comptime!(s * LANES) + lane as usize] = sums[s];
    }
    sync_cube();
    let parts = comptime!(LANES / PART);
    #[unroll]
    for t in 0..comptime!(n_sums * parts / LANES) {
        let task = lane as usize + comptime!(t * LANES);
        let at = group_start + task / parts * comptime!(LANES) + task % parts * comptime!(PART);
        shared[at] = (shared[at] + shared[at + 1]) + (shared[at + 2] + shared[at + 3]);
    }
    sync_cube();
    let sum_index = lane as usize;
    if sum_index < n_sums {
        let row = first_row + lane / comptime!(batch as u32);
        let b = lane % comptime!(batch as u32);
        if row < rows && b < n {
            let start = group_start + sum_index * comptime!(LANES);
            let mut sum = shared[start];
            #[unroll]
            for p in 1..parts {
                sum += shared[start + comptime!(p * PART)];
            }
            let at = (b * out_width + out_column + row) as usize;
            if comptime!(add_residual) {
                sum += residual[at];
            }
            out[at] = sum;
        }
    }
}

/// Writes `input · Wᵀ` to the columns of `out` from `column` on, plus those of `residual`.
///
/// `input` is contiguous, `[n, columns]`, with at most [`MAX_ROWS`] rows.
pub(super) fn launch_gemv(
    input: &CubeTensor,
    matrix: &DeviceMatrix,
    residual: Option<&CubeTensor>,
    out: &CubeTensor,
    column: usize,
) {
    let [n, columns] = dims(input);
    let [_n, out_width] = dims(out);
    let batch = n.next_power_of_two();
    // At most 16 sums of a lane: they are registers, and 8 KiB of shared memory.
    let rows_of_group = (16 / batch).min(4);
    let rows_of_workgroup = GROUPS * rows_of_group;
    let vector = if columns.is_multiple_of(8) { 4 } else { 1 };
    // SAFETY: the kernel reads the input within its `n` rows and the matrix within its rows and pieces, and
    // writes columns of `out` within its width.
    unsafe {
        gemv::launch_unchecked(
            &input.client,
            CubeCount::Static(matrix.rows.div_ceil(rows_of_workgroup) as u32, 1, 1),
            CubeDim::new_2d(LANES as u32, GROUPS as u32),
            buffer(input),
            buffer(&matrix.words),
            buffer(residual.unwrap_or(input)),
            buffer(out),
            matrix.launch_dims(),
            n as u32,
            matrix.rows as u32,
            columns as u32,
            out_width as u32,
            column as u32,
            matrix.format,
            batch,
            rows_of_group,
            residual.is_some(),
            vector,
        );
    }
}
