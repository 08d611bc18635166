//! Rows of a frozen matrix in f32.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::device_matrix::DeviceMatrix;
use super::words::{Format, MatrixDims, unpack_piece};
use crate::gpu::tensors::{buffer, dims, elem_type};

const UNITS: u32 = 64;

/// Every unit unpacks a piece of an output row.
#[cube(launch_unchecked)]
fn unpack_rows<I: Int>(
    words: &[u32],
    indices: &[I],
    out: &mut [f32],
    dims: &MatrixDims,
    n: u32,
    rows: u32,
    columns: u32,
    #[comptime] format: Format,
    #[comptime] all: bool,
    #[define(I)] _index: ElemType,
) {
    let piece = CUBE_POS_X * CUBE_DIM_X + UNIT_POS_X;
    let to = CUBE_POS_Y + CUBE_POS_Z * CUBE_COUNT_Y;
    if to < n && piece < dims.pieces {
        let row = if comptime!(all) {
            to
        } else {
            min(u32::cast_from(indices[to as usize]), rows - 1u32)
        };
        let values = unpack_piece(words, dims, row, piece, format);
        #[unroll]
        for i in 0..8usize {
            let column = piece * 8u32 + comptime!(i as u32);
            if column < columns {
                out[(to * columns + column) as usize] = values[i];
            }
        }
    }
}

/// Writes `n` rows to `out`: those of `indices`, or all in order.
pub(super) fn launch_unpack_rows(
    matrix: &DeviceMatrix,
    indices: Option<&CubeTensor>,
    out: &CubeTensor,
) {
    /// Workgroups along one dimension, which WebGPU limits to 65535.
    const MAX_ROWS: usize = 1 << 15;
    let [n, columns] = dims(out);
    let index = elem_type(indices.unwrap_or(&matrix.words));
    let workgroups =
        [matrix.pieces().div_ceil(UNITS as usize), n.min(MAX_ROWS), n.div_ceil(MAX_ROWS)]
            .map(|count| count as u32);
    // SAFETY: the kernel limits indices to the rows of the matrix, and writes within the `n` rows of `out`.
    unsafe {
        unpack_rows::launch_unchecked(
            &out.client,
            CubeCount::Static(workgroups[0], workgroups[1], workgroups[2]),
            CubeDim::new_1d(UNITS),
            buffer(&matrix.words),
            buffer(indices.unwrap_or(&matrix.words)),
            buffer(out),
            matrix.launch_dims(),
            n as u32,
            matrix.rows as u32,
            columns as u32,
            matrix.format,
            indices.is_none(),
            index,
        );
    }
}
