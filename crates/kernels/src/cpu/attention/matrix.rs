//! Products of small matrices that lie in slices. Bounds are checked once for a whole product.

use crate::cpu::{
    simd::Simd,
    tile::{self, Left, Out, Right},
};

use super::PANEL;

/// A matrix in a slice: element `(r, c)` lies at `r * row + c * column`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// What it lies in, from element (0, 0).
    pub numbers: &'a [f32],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn new(numbers: &'a [f32], row: usize) -> Self {
        Self { numbers, row, column: 1 }
    }

    /// What [`Matrix::new`] gives, with rows and columns exchanged.
    pub fn transposed(numbers: &'a [f32], row: usize) -> Self {
        Self { numbers, row: 1, column: row }
    }

    fn check(self, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row + (columns - 1) * self.column;
            assert!(last < self.numbers.len(), "{rows} x {columns} numbers reach beyond a slice");
        }
    }
}

/// Rows that a product is written to.
#[derive(Debug)]
pub struct MatrixViewMut<'a> {
    /// What they lie in, from element (0, 0).
    pub numbers: &'a mut [f32],
    /// From a row to the next.
    pub row: usize,
    /// Whether the product is added to what is there.
    pub add: bool,
}

/// `out[r][c] (+)= Σ_k left[r][k] right[k][c]` for `columns` columns: whole vectors, and rows of
/// `right` in one piece.
pub fn multiply<S: Simd>(
    simd: S,
    [rows, depth, columns]: [usize; 3],
    left: Matrix,
    right: Matrix,
    out: MatrixViewMut,
) {
    assert!(columns.is_multiple_of(S::LANES), "{columns} columns are no whole vectors");
    assert!(right.column == 1, "rows of the right side lie in one piece");
    left.check(rows, depth);
    right.check(depth, columns);
    Matrix::new(out.numbers, out.row).check(rows, columns);
    let to = out.numbers.as_mut_ptr();
    simd.vectorize(
        #[inline(always)]
        || {
            let mut column = 0;
            while column < columns {
                let Matrix { numbers, row, column: step } = left;
                let left = Left { start: numbers.as_ptr(), row, column: step };
                let right = Right {
                    start: right.numbers.as_ptr().wrapping_add(column),
                    row: right.row,
                    second: S::LANES,
                };
                let out = Out {
                    start: to.wrapping_add(column),
                    row: out.row,
                    second: S::LANES,
                    add: out.add,
                };
                // SAFETY: `check` has seen the last element of all three, and `out` is borrowed
                // for writing.
                unsafe {
                    if columns - column >= 2 * S::LANES {
                        tile::product::<S, 2>(simd, rows, depth, left, right, out);
                    } else {
                        tile::product::<S, 1>(simd, rows, depth, left, right, out);
                    }
                }
                column += 2 * S::LANES;
            }
        },
    );
}

/// How many slots [`scores`] handles at once.
pub fn score_tile_positions<S: Simd>() -> usize {
    2 * S::LANES
}

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for the keys of `panels`, `[head_dim, 16]` each, as
/// many as there are, [`score_tile_positions`] at the most.
pub fn scores<S: Simd>(
    simd: S,
    rows: usize,
    head_dim: usize,
    query: Matrix,
    panels: &[f32],
    out: MatrixViewMut,
) {
    let slots = panels.len() / head_dim;
    assert!(panels.len() == slots * head_dim && slots.is_multiple_of(PANEL), "whole panels");
    assert!(0 < slots && slots <= score_tile_positions::<S>(), "{slots} slots at once");
    query.check(rows, head_dim);
    Matrix::new(out.numbers, out.row).check(rows, slots);
    let to = out.numbers.as_mut_ptr();
    simd.vectorize(
        #[inline(always)]
        || {
            let Matrix { numbers, row, column } = query;
            let left = Left { start: numbers.as_ptr(), row, column };
            let second = if S::LANES == PANEL { PANEL * head_dim } else { S::LANES };
            let right = Right { start: panels.as_ptr(), row: PANEL, second };
            let out = Out { start: to, row: out.row, second: S::LANES, add: out.add };
            // SAFETY: `check` has seen the last element of `query` and `out`, which is borrowed
            // for writing; the second vector is in the one panel, or in the next if there is one.
            unsafe {
                if slots == 2 * S::LANES {
                    tile::product::<S, 2>(simd, rows, head_dim, left, right, out);
                } else {
                    tile::product::<S, 1>(simd, rows, head_dim, left, right, out);
                }
            }
        },
    );
}
