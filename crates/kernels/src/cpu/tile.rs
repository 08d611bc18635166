//! The one inner loop of all products: a few rows times one or two vectors of columns, the sums in
//! registers.
//!
//! ```text
//! out[r][c] (+)= Σ_k left[r][k] · right[k][c]      r < R, c < V vectors
//! ```
//!
//! Sums run over `k` from first to last: a product does not depend on the number of threads.

use super::simd::Simd;

/// Left side of a product: element `(r, k)` lies at `start[r * row + k * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// Element (0, 0).
    pub start: *const f32,
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub column: usize,
}

/// Right side of a product: the first vector of row `k` lies at `start[k * row]`.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// Element (0, 0).
    pub start: *const f32,
    /// From a row to the next.
    pub row: usize,
    /// From a row's first vector to its second.
    pub second: usize,
}

/// Where a product goes: the first vector of row `r` lies at `start[r * row]`.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    /// Element (0, 0).
    pub start: *mut f32,
    /// From a row to the next.
    pub row: usize,
    /// From a row's first vector to its second.
    pub second: usize,
    /// Whether the product is added to what is there.
    pub add: bool,
}

/// `rows` rows times `V` vectors of columns, sums of `depth` terms.
///
/// # Safety
/// All elements named above exist, and nobody else looks at those of `out`.
#[inline(always)]
pub unsafe fn product<S: Simd, const V: usize>(
    simd: S,
    rows: usize,
    depth: usize,
    left: Left,
    right: Right,
    out: Out,
) {
    let mut done = 0;
    macro_rules! tiles {
        ($($R:literal)*) => {{
            $(
                while rows - done >= $R {
                    // SAFETY: the caller's; `done + R <= rows`.
                    unsafe {
                        let left = Left { start: left.start.add(done * left.row), ..left };
                        let out = Out { start: out.start.add(done * out.row), ..out };
                        tile::<S, $R, V>(simd, depth, left, right, out);
                    }
                    done += $R;
                }
            )*
        }};
    }
    match S::ROWS {
        12 => tiles!(12 8 4 2 1),
        6 => tiles!(6 4 2 1),
        _ => tiles!(2 1),
    }
}

/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    depth: usize,
    left: Left,
    right: Right,
    out: Out,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[simd.splat(0.0); V]; R];
        let (mut a, mut b) = (left.start, right.start);
        for _ in 0..depth {
            let columns: [S::F; V] = std::array::from_fn(|v| simd.load(b.add(v * right.second)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = simd.splat(*a.add(r * left.row));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = simd.mul_add(x, column, *sum);
                }
            }
            a = a.wrapping_add(left.column);
            b = b.wrapping_add(right.row);
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = out.start.add(r * out.row + v * out.second);
                let sum = if out.add { simd.add(simd.load(to), sum) } else { sum };
                simd.store(to, sum);
            }
        }
    }
}
