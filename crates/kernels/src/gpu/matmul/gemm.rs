//! Products of many rows with a frozen matrix, forward and backward.
//!
//! ```text
//! forward    out[n, rows]    = x[n, columns] · Wᵀ       k runs over the columns
//! backward   out[n, columns] = dy[n, rows]   · W        k runs over the rows
//!
//! for each 16 of k:   16 x 64 of the input and 16 x 64 of the matrix, unpacked ─► shared memory, 8.3 KiB
//!                     256 units add 4 x 4 products each, in registers
//! ```

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::device_matrix::DeviceMatrix;
use super::words::{Format, MatrixDims, unpack_piece};
use crate::gpu::tensors::{buffer, dims};

/// Units of a workgroup along each side of its tile.
const SIDE: usize = 16;
/// Values of k in shared memory.
const DEPTH: usize = 16;
/// Columns of the output in a tile.
const TILE: usize = 64;
/// Distance of rows in shared memory. Odd, against conflicts of banks.
const PITCH: usize = TILE + 1;

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// What is added to the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Addend {
    Nothing,
    Residual,
    /// What the output holds.
    Output,
}

#[cube(launch_unchecked)]
fn gemm<X: Size>(
    input: &[Vector<f32, X>],
    words: &[u32],
    residual: &[f32],
    out: &mut [f32],
    dims: &MatrixDims,
    n: u32,
    rows: u32,
    columns: u32,
    in_width: u32,
    in_column: u32,
    out_width: u32,
    out_column: u32,
    #[comptime] format: Format,
    #[comptime] direction: Direction,
    #[comptime] addend: Addend,
    // Rows of the output that a unit computes; the tile has 16 times as many.
    #[comptime] rows_of_unit: usize,
    #[define(X)] _input_vector: usize,
) {
    let is_forward = comptime!(direction == Direction::Forward);
    let (depth, width) = if is_forward { (columns, rows) } else { (rows, columns) };
    let unit = UNIT_POS;
    let first_row = CUBE_POS_Y * comptime!((SIDE * rows_of_unit) as u32);
    let first_column = CUBE_POS_X * comptime!(TILE as u32);
    let vector = X::value();

    let mut inputs = Shared::<[f32]>::new_slice(comptime!(DEPTH * PITCH));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(DEPTH * PITCH));
    let n_sums = comptime!(rows_of_unit * 4);
    let mut sums = Array::<f32>::new(n_sums);
    #[unroll]
    for s in 0..n_sums {
        sums[s] = 0.0f32;
    }

    let mut start = 0u32;
    while start < depth {
        // Units read 4 values of k of a row each.
        if unit < comptime!((SIDE * rows_of_unit * DEPTH / 4) as u32) {
            let row = first_row + unit / 4u32;
            let to = (unit % 4u32 * comptime!((4 * PITCH) as u32) + unit / 4u32) as usize;
            #[unroll]
            for v in 0..comptime!(4 / vector) {
                let k = start + unit % 4u32 * 4u32 + comptime!((v * vector) as u32);
                let inside = row < n && k < depth;
                let at = select(inside, row * in_width + in_column + k, 0u32);
                let values = input[(at / comptime!(vector as u32)) as usize];
                #[unroll]
                for l in 0..vector {
                    inputs[to + comptime!((v * vector + l) * PITCH)] =
                        select(inside, values.extract(l), 0.0f32);
                }
            }
        }
        // 128 units unpack a piece each.
        if unit < comptime!((DEPTH * TILE / 8) as u32) {
            if is_forward {
                // Two pieces of 64 rows, transposed.
                let row = first_column + unit % 64u32;
                let piece = start / 8u32 + unit / 64u32;
                let to = (unit / 64u32 * comptime!((8 * PITCH) as u32) + unit % 64u32) as usize;
                let inside = row < rows && piece < dims.pieces;
                let values = unpack_piece(
                    words,
                    dims,
                    select(inside, row, 0u32),
                    select(inside, piece, 0u32),
                    format,
                );
                #[unroll]
                for i in 0..8usize {
                    weights[to + comptime!(i * PITCH)] = select(inside, values[i], 0.0f32);
                }
            } else {
                // Eight pieces of 16 rows.
                let row = start + unit / 8u32;
                let piece = first_column / 8u32 + unit % 8u32;
                let to = (unit / 8u32 * comptime!(PITCH as u32) + unit % 8u32 * 8u32) as usize;
                let inside = row < rows && piece < dims.pieces;
                let values = unpack_piece(
                    words,
                    dims,
                    select(inside, row, 0u32),
                    select(inside, piece, 0u32),
                    format,
                );
                #[unroll]
                for i in 0..8usize {
                    weights[to + i] = select(inside, values[i], 0.0f32);
                }
            }
        }
        sync_cube();
        for k in 0..DEPTH {
            let mut a = Array::<f32>::new(rows_of_unit);
            #[unroll]
            for i in 0..rows_of_unit {
                a[i] = inputs[k * PITCH + UNIT_POS_Y as usize + comptime!(i * SIDE)];
            }
            #[unroll]
            for j in 0..4usize {
                let b = weights[k * PITCH + UNIT_POS_X as usize + comptime!(j * SIDE)];
                #[unroll]
                for i in 0..rows_of_unit {
                    sums[comptime!(i * 4 + j)] += a[i] * b;
                }
            }
        }
        sync_cube();
        start += comptime!(DEPTH as u32);
    }

    #[unroll]
    for i in 0..rows_of_unit {
        let row = first_row + UNIT_POS_Y + comptime!((i * SIDE) as u32);
        #[unroll]
        for j in 0..4usize {
            let column = first_column + UNIT_POS_X + comptime!((j * SIDE) as u32);
            if row < n && column < width {
                let at = (row * out_width + out_column + column) as usize;
                let mut sum = sums[comptime!(i * 4 + j)];
                match comptime!(addend) {
                    Addend::Nothing => {}
                    Addend::Residual => sum += residual[at],
                    Addend::Output => sum += out[at],
                }
                out[at] = sum;
            }
        }
    }
}

/// Operands of a launch. `input` and `out` are contiguous and have `n` rows. The product reads the columns of
/// `input` from `in_column` on, and writes those of `out` from `out_column` on.
pub(super) struct Gemm<'a> {
    pub input: &'a CubeTensor,
    pub in_column: usize,
    pub matrix: &'a DeviceMatrix,
    pub direction: Direction,
    pub residual: Option<&'a CubeTensor>,
    pub add_to_output: bool,
    pub out: &'a CubeTensor,
    pub out_column: usize,
}

impl Gemm<'_> {
    pub fn launch(&self) {
        let Self { input, in_column, matrix, direction, residual, out, out_column, .. } = *self;
        let [n, in_width] = dims(input);
        let [_n, out_width] = dims(out);
        let [depth, width] = match direction {
            Direction::Forward => [matrix.columns, matrix.rows],
            Direction::Backward => [matrix.rows, matrix.columns],
        };
        let addend = match (residual, self.add_to_output) {
            (Some(_), _) => Addend::Residual,
            (None, true) => Addend::Output,
            (None, false) => Addend::Nothing,
        };
        let rows_of_unit = n.div_ceil(SIDE).next_power_of_two().min(4);
        let aligned = [depth, in_width, in_column].iter().all(|at| at.is_multiple_of(4));
        let tiles = [width.div_ceil(TILE), n.div_ceil(SIDE * rows_of_unit)];
        // SAFETY: the kernel reads the input and the matrix within their rows and columns, and writes rows and
        // columns of `out` within its dimensions.
        unsafe {
            gemm::launch_unchecked(
                &input.client,
                CubeCount::Static(tiles[0] as u32, tiles[1] as u32, 1),
                CubeDim::new_2d(SIDE as u32, SIDE as u32),
                buffer(input),
                buffer(&matrix.words),
                buffer(residual.unwrap_or(input)),
                buffer(out),
                matrix.launch_dims(),
                n as u32,
                matrix.rows as u32,
                matrix.columns as u32,
                in_width as u32,
                in_column as u32,
                out_width as u32,
                out_column as u32,
                matrix.format,
                direction,
                addend,
                rows_of_unit,
                if aligned { 4 } else { 1 },
            );
        }
    }
}
