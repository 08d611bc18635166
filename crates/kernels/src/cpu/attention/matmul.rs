//! Matrix multiplication in slices. Bounds are checked once per multiplication.

use crate::cpu::microkernel::{LhsPtr, OutPtr, RhsPtr, microkernel};

pub use crate::cpu::microkernel::OutMode;
use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

/// A matrix in a slice: element `(r, c)` is `elements[r * row_stride + c * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    /// The slice, from element (0, 0) on.
    pub elements: &'a [f32],
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub column_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// A row-major matrix.
    pub fn new(elements: &'a [f32], row_stride: usize) -> Self {
        Self { elements, row_stride, column_stride: 1 }
    }

    /// The transpose of a row-major matrix.
    pub fn transposed(elements: &'a [f32], row_stride: usize) -> Self {
        Self { elements, row_stride: 1, column_stride: row_stride }
    }

    /// # Panics
    /// If a matrix of this size has elements beyond the slice.
    fn check_bounds(self, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
            assert!(last < self.elements.len(), "{rows} x {columns} elements exceed the slice");
        }
    }
}

/// A row-major matrix to write to.
#[derive(Debug)]
pub struct MatrixViewMut<'a> {
    /// The slice, from element (0, 0) on.
    pub elements: &'a mut [f32],
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// What becomes of the elements' values.
    pub mode: OutMode,
}

/// `out[r][c] (+)= Σ_k lhs[r][k] rhs[k][c]` for `columns` columns.
///
/// # Panics
/// If `columns` is not whole vectors, the rows of `rhs` are not contiguous, or a matrix exceeds its
/// slice.
pub fn matmul<S: Simd>(
    simd: S,
    [rows, depth, columns]: [usize; 3],
    lhs: MatrixView,
    rhs: MatrixView,
    out: MatrixViewMut,
) {
    assert!(columns.is_multiple_of(S::LANES), "{columns} columns are not whole vectors");
    assert!(rhs.column_stride == 1, "the rows of the right matrix are not contiguous");
    lhs.check_bounds(rows, depth);
    rhs.check_bounds(depth, columns);
    MatrixView::new(out.elements, out.row_stride).check_bounds(rows, columns);
    let to = out.elements.as_mut_ptr();
    simd.vectorize(
        #[inline(always)]
        || {
            let mut column = 0;
            while column < columns {
                let MatrixView { elements, row_stride, column_stride } = lhs;
                let lhs = LhsPtr { ptr: elements.as_ptr(), row_stride, column_stride };
                let rhs = RhsPtr {
                    ptr: rhs.elements.as_ptr().wrapping_add(column),
                    row_stride: rhs.row_stride,
                    vector_stride: S::LANES,
                };
                let out = OutPtr {
                    ptr: to.wrapping_add(column),
                    row_stride: out.row_stride,
                    vector_stride: S::LANES,
                    mode: out.mode,
                };
                // SAFETY: `check_bounds` has checked the last element of all three matrices, and
                // `out` is borrowed mutably.
                unsafe {
                    if columns - column >= 2 * S::LANES {
                        microkernel::<S, 2>(simd, rows, depth, lhs, rhs, out);
                    } else {
                        microkernel::<S, 1>(simd, rows, depth, lhs, rhs, out);
                    }
                }
                column += 2 * S::LANES;
            }
        },
    );
}

/// Maximum number of positions for one call of [`scores`].
pub fn score_tile_positions<S: Simd>() -> usize {
    2 * S::LANES
}

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for the keys of one or more panels, `[head_dim, 16]`
/// each, with at most [`score_tile_positions`] keys.
///
/// # Panics
/// If the number of keys is not supported, or a matrix exceeds its slice.
pub fn scores<S: Simd>(
    simd: S,
    rows: usize,
    head_dim: usize,
    query: MatrixView,
    panels: &[f32],
    out: MatrixViewMut,
) {
    let positions = panels.len() / head_dim;
    let whole = panels.len() == positions * head_dim && positions.is_multiple_of(PANEL);
    assert!(whole, "the keys are not whole panels");
    let max = score_tile_positions::<S>();
    assert!(0 < positions && positions <= max, "{positions} positions, not 1 to {max}");
    query.check_bounds(rows, head_dim);
    MatrixView::new(out.elements, out.row_stride).check_bounds(rows, positions);
    let to = out.elements.as_mut_ptr();
    simd.vectorize(
        #[inline(always)]
        || {
            let MatrixView { elements, row_stride, column_stride } = query;
            let lhs = LhsPtr { ptr: elements.as_ptr(), row_stride, column_stride };
            let vector_stride = if S::LANES == PANEL { PANEL * head_dim } else { S::LANES };
            let rhs = RhsPtr { ptr: panels.as_ptr(), row_stride: PANEL, vector_stride };
            let out = OutPtr {
                ptr: to,
                row_stride: out.row_stride,
                vector_stride: S::LANES,
                mode: out.mode,
            };
            // SAFETY: `check_bounds` has checked the last element of `query` and of `out`, which is
            // borrowed mutably. The second vector is in the same panel with 8 lanes, and in the
            // second panel with 16.
            unsafe {
                if positions == 2 * S::LANES {
                    microkernel::<S, 2>(simd, rows, head_dim, lhs, rhs, out);
                } else {
                    microkernel::<S, 1>(simd, rows, head_dim, lhs, rhs, out);
                }
            }
        },
    );
}
