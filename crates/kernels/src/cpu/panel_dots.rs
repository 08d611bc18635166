//! Dot products of a few rows with one panel: the inner loops of the small-batch GEMM.

use super::packed_matrix::DenseElement;
use super::simd::Simd;
use crate::sizes::PANEL;

/// Columns with separate sums: consecutive additions do not wait for each other.
const ACCUMULATORS: usize = 4;

/// Each row times the 16 columns of one dense panel, `[column][16]`.
#[inline(always)]
pub(super) fn dot<S: Simd, T: DenseElement, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    panel: &[T],
) -> [[S::F; V]; R] {
    let depth = rows[0].len();
    assert!(panel.len() == depth * PANEL && V * S::LANES == PANEL, "a panel of {depth} columns");
    let from = panel.as_ptr();
    let mut sums = [[[simd.splat(0.0); V]; R]; ACCUMULATORS];
    let whole = depth / ACCUMULATORS * ACCUMULATORS;
    // SAFETY: `k` is below `depth`: the panel has `depth` columns of 16 elements.
    unsafe {
        for k in (0..whole).step_by(ACCUMULATORS) {
            for i in 0..ACCUMULATORS {
                // With more than two rows there are enough independent sums without accumulators.
                let sums = &mut sums[if R <= 2 { i } else { 0 }];
                multiply_add_column(simd, rows, k + i, from, sums);
            }
        }
        for k in whole..depth {
            multiply_add_column(simd, rows, k, from, &mut sums[0]);
        }
    }
    let [a, b, c, d] = sums;
    if R > 2 {
        return a;
    }
    std::array::from_fn(|r| {
        std::array::from_fn(|v| simd.add(simd.add(a[r][v], b[r][v]), simd.add(c[r][v], d[r][v])))
    })
}

/// Adds the products with column `k` of the panel at `from`.
///
/// # Safety
/// All rows have more than `k` elements, and the panel has more than `k` columns of 16.
#[inline(always)]
unsafe fn multiply_add_column<S: Simd, T: DenseElement, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    k: usize,
    from: *const T,
    sums: &mut [[S::F; V]; R],
) {
    let column = from.wrapping_add(k * PANEL);
    // SAFETY: the caller guarantees that the panel has the column.
    let vectors: [S::F; V] =
        std::array::from_fn(|v| unsafe { T::load(simd, column.wrapping_add(v * S::LANES)) });
    for (row, sums) in rows.iter().zip(sums) {
        // SAFETY: the caller guarantees that the row has the element.
        let x = simd.splat(unsafe { *row.get_unchecked(k) });
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.mul_add(x, vector, *sum);
        }
    }
}

/// Each row times a block of 8 bits.
///
/// # Safety
/// `from` points to 16 bytes for each element of a row.
#[inline(always)]
pub(super) unsafe fn dot_u8<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [[S::F; V]; R] {
    dot_column_pairs(
        simd,
        rows,
        #[inline(always)]
        |pair, v| {
            // SAFETY: `pair` is below half the length of the rows; the caller guarantees 16 bytes
            // for each element.
            unsafe {
                let at = from.add(2 * pair * PANEL + v * S::LANES);
                (simd.load_u8(at), simd.load_u8(at.add(PANEL)))
            }
        },
    )
}

/// Each row times a block of 4 bits.
///
/// # Safety
/// `from` points to 16 bytes for each pair of elements of a row.
#[inline(always)]
pub(super) unsafe fn dot_u4<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    from: *const u8,
) -> [[S::F; V]; R] {
    dot_column_pairs(
        simd,
        rows,
        #[inline(always)]
        |pair, v| {
            // SAFETY: `pair` is below half the length of the rows; the caller guarantees 16 bytes
            // for each pair.
            unsafe { simd.load_nibbles(from.add(pair * PANEL + v * S::LANES)) }
        },
    )
}

/// Each row times a block, with separate sums for even and odd columns: consecutive additions do
/// not wait for each other. `load` returns vector `v` of both columns of a pair.
#[inline(always)]
fn dot_column_pairs<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    load: impl Fn(usize, usize) -> (S::F, S::F),
) -> [[S::F; V]; R] {
    let mut sums = [[[simd.splat(0.0); V]; R]; 2];
    for pair in 0..rows[0].len() / 2 {
        let vectors: [(S::F, S::F); V] = std::array::from_fn(|v| load(pair, v));
        for (r, row) in rows.iter().enumerate() {
            // SAFETY: `2 * pair + 1` is below the length of the rows, which are equally long.
            let (a, b) =
                unsafe { (*row.get_unchecked(2 * pair), *row.get_unchecked(2 * pair + 1)) };
            let (a, b) = (simd.splat(a), simd.splat(b));
            for (v, (even, odd)) in vectors.into_iter().enumerate() {
                sums[0][r][v] = simd.mul_add(a, even, sums[0][r][v]);
                sums[1][r][v] = simd.mul_add(b, odd, sums[1][r][v]);
            }
        }
    }
    let [even, odd] = sums;
    std::array::from_fn(|r| std::array::from_fn(|v| simd.add(even[r][v], odd[r][v])))
}
