//! The inner loop of all matrix multiplications in f32: a few rows times one or two vectors of
//! columns, with the sums in registers.
//!
//! ```text
//! out[r][c] (+)= Σ_k lhs[r][k] · rhs[k][c]      r < R, c < V vectors
//! ```
//!
//! Sums run over `k` from first to last, so that results do not depend on the number of threads.

use super::simd::Simd;

/// The left matrix: element `(r, k)` is `ptr[r * row_stride + k * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct LhsPtr {
    /// Element (0, 0).
    pub ptr: *const f32,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from a column to the next.
    pub column_stride: usize,
}

/// The right matrix: the first vector of row `k` starts at `ptr[k * row_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct RhsPtr {
    /// Element (0, 0).
    pub ptr: *const f32,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from the first vector of a row to the second.
    pub vector_stride: usize,
}

/// The output: the first vector of row `r` starts at `ptr[r * row_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct OutPtr {
    /// Element (0, 0).
    pub ptr: *mut f32,
    /// Elements from a row to the next.
    pub row_stride: usize,
    /// Elements from the first vector of a row to the second.
    pub vector_stride: usize,
    /// What becomes of the output's values.
    pub mode: OutMode,
}

/// What becomes of the values that an output has before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutMode {
    /// They are overwritten.
    Overwrite,
    /// The sums are added to them.
    Add,
    /// They are the first terms of the sums.
    Continue,
}

/// Multiplies `rows` rows of length `depth` by `V` vectors of columns.
///
/// # Safety
/// All elements named above are valid, and nobody else accesses those of `out`.
#[inline(always)]
pub unsafe fn microkernel<S: Simd, const V: usize>(
    simd: S,
    rows: usize,
    depth: usize,
    lhs: LhsPtr,
    rhs: RhsPtr,
    out: OutPtr,
) {
    let mut done = 0;
    macro_rules! tiles {
        ($($R:literal)*) => {{
            $(
                while rows - done >= $R {
                    // SAFETY: the caller guarantees it for `rows` rows, and `done + R <= rows`.
                    unsafe {
                        let lhs = LhsPtr { ptr: lhs.ptr.add(done * lhs.row_stride), ..lhs };
                        let out = OutPtr { ptr: out.ptr.add(done * out.row_stride), ..out };
                        tile::<S, $R, V>(simd, depth, lhs, rhs, out);
                    }
                    done += $R;
                }
            )*
        }};
    }
    match S::TILE_ROWS {
        12 => tiles!(12 8 4 2 1),
        6 => tiles!(6 4 2 1),
        _ => tiles!(2 1),
    }
}

/// Multiplies `R` rows.
///
/// # Safety
/// As [`microkernel`].
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    depth: usize,
    lhs: LhsPtr,
    rhs: RhsPtr,
    out: OutPtr,
) {
    // SAFETY: the caller guarantees that all elements are valid.
    unsafe {
        let mut sums = [[simd.splat(0.0); V]; R];
        if out.mode == OutMode::Continue {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.load(out.ptr.add(r * out.row_stride + v * out.vector_stride));
                }
            }
        }
        let (mut a, mut b) = (lhs.ptr, rhs.ptr);
        for _ in 0..depth {
            let columns: [S::F; V] =
                std::array::from_fn(|v| simd.load(b.add(v * rhs.vector_stride)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = simd.splat(*a.add(r * lhs.row_stride));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = simd.mul_add(x, column, *sum);
                }
            }
            a = a.wrapping_add(lhs.column_stride);
            b = b.wrapping_add(rhs.row_stride);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = out.ptr.add(r * out.row_stride + v * out.vector_stride);
                let add = out.mode == OutMode::Add;
                let sum = if add { simd.add(simd.load(to), sum) } else { sum };
                simd.store(to, sum);
            }
        }
    }
}
