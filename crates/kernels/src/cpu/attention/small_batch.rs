//! Matrix multiplication for decode, one to four rows at a time. With so few rows, each row needs
//! several independent sums: an addition waits for the previous one.

use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

/// Rows of values that are processed for all columns before the next rows are read.
const ROWS_PER_PASS: usize = 32;

/// Evaluates `$work` for all rows, with the constant `$R` bound to the number of rows at a time: 4,
/// and at the end 3, 2 or 1.
macro_rules! for_each_row_tile {
    ($rows:expr, $row:ident, $R:ident => $work:expr) => {
        let mut $row = 0;
        while $row < $rows {
            match $rows - $row {
                1 => {
                    const $R: usize = 1;
                    $work;
                    $row += $R;
                }
                2 => {
                    const $R: usize = 2;
                    $work;
                    $row += $R;
                }
                3 => {
                    const $R: usize = 3;
                    $work;
                    $row += $R;
                }
                _ => {
                    const $R: usize = 4;
                    $work;
                    $row += $R;
                }
            }
        }
    };
}

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for all keys of `panels`, `[head_dim, 16]` each. Rows of
/// `out` are `out_stride` apart.
#[inline(always)]
pub fn scores<S: Simd>(
    simd: S,
    query: &[f32],
    head_dim: usize,
    panels: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    let rows = query.len() / head_dim;
    let positions = panels.len() / (PANEL * head_dim) * PANEL;
    assert!(
        rows > 0 && (rows - 1) * out_stride + positions <= out.len(),
        "{rows} x {positions} scores"
    );
    for_each_row_tile!(rows, row, R => {
        for (i, panel) in panels.chunks_exact(PANEL * head_dim).enumerate() {
            let query = query[row * head_dim..][..R * head_dim].as_ptr();
            let out = out[row * out_stride + i * PANEL..].as_mut_ptr();
            // SAFETY: the slices have `R` rows of queries and a panel. `out` has `R` rows of 16,
            // since it has the last element of all rows.
            unsafe {
                if S::LANES == PANEL {
                    score_panel::<S, R, 1, 4>(simd, head_dim, query, panel.as_ptr(), out, out_stride);
                } else if R == 4 {
                    score_panel::<S, R, 2, 1>(simd, head_dim, query, panel.as_ptr(), out, out_stride);
                } else {
                    score_panel::<S, R, 2, 2>(simd, head_dim, query, panel.as_ptr(), out, out_stride);
                }
            }
        }
    });
}

/// Multiplies `R` rows by one panel of `V` vectors, with `U` independent sums for each element.
///
/// # Safety
/// `query` points to `R` rows of `depth` elements, `panel` to `depth` rows of 16, and `out` to `R`
/// rows of 16 that are `out_stride` apart.
#[inline(always)]
unsafe fn score_panel<S: Simd, const R: usize, const V: usize, const U: usize>(
    simd: S,
    depth: usize,
    query: *const f32,
    panel: *const f32,
    out: *mut f32,
    out_stride: usize,
) {
    let mut sums = [[[simd.splat(0.0); V]; R]; U];
    // SAFETY: the caller guarantees `depth` elements of each row, and `d + u < depth`.
    unsafe {
        let mut d = 0;
        while d + U <= depth {
            for (u, sums) in sums.iter_mut().enumerate() {
                rank1_update(simd, query.add(d + u), depth, panel.add((d + u) * PANEL), sums);
            }
            d += U;
        }
        while d < depth {
            rank1_update(simd, query.add(d), depth, panel.add(d * PANEL), &mut sums[0]);
            d += 1;
        }
        for r in 0..R {
            for v in 0..V {
                let mut sum = sums[0][r][v];
                for more in &sums[1..] {
                    sum = simd.add(sum, more[r][v]);
                }
                simd.store(out.add(r * out_stride + v * S::LANES), sum);
            }
        }
    }
}

/// Adds `lhs[r] * rhs` to each row of `sums`.
///
/// # Safety
/// `lhs` points to `R` elements that are `stride` apart, `rhs` to `V` vectors.
#[inline(always)]
unsafe fn rank1_update<S: Simd, const R: usize, const V: usize>(
    simd: S,
    lhs: *const f32,
    stride: usize,
    rhs: *const f32,
    sums: &mut [[S::F; V]; R],
) {
    // SAFETY: the caller guarantees that these elements are valid.
    unsafe {
        let vectors: [S::F; V] = std::array::from_fn(|v| simd.load(rhs.add(v * S::LANES)));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = simd.splat(*lhs.add(r * stride));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add(x, vector, *sum);
            }
        }
    }
}

/// `out[r][c] = Σ_k weights[r][k] values[k][c]` for `width` columns, whole vectors. Rows of
/// `weights` and `out` are `weight_stride` and `out_stride` apart.
#[inline(always)]
pub fn weighted_sum<S: Simd>(
    simd: S,
    [rows, positions, width]: [usize; 3],
    (weights, weight_stride): (&[f32], usize),
    values: &[f32],
    (out, out_stride): (&mut [f32], usize),
) {
    assert!(
        rows > 0 && positions > 0 && width.is_multiple_of(S::LANES),
        "{rows} x {positions} x {width}"
    );
    assert!(
        (rows - 1) * weight_stride + positions <= weights.len(),
        "{rows} x {positions} weights"
    );
    assert!(positions * width <= values.len(), "{positions} x {width} values");
    assert!((rows - 1) * out_stride + width <= out.len(), "{rows} x {width} sums");
    for start in (0..positions).step_by(ROWS_PER_PASS) {
        let end = positions.min(start + ROWS_PER_PASS);
        for_each_row_tile!(rows, row, R => {
            let weights = weights[row * weight_stride..].as_ptr();
            let out = out[row * out_stride..].as_mut_ptr();
            let mut column = 0;
            macro_rules! columns {
                ($($V:literal)*) => {
                    $(
                        while $V * R <= 9 && width - column >= $V * S::LANES {
                            // SAFETY: the assertions above check the last element of all three
                            // matrices, and `$V` vectors from `column` on are within `width`.
                            unsafe {
                                let values = values.as_ptr().add(column);
                                let out = out.add(column);
                                let mut sums = [[simd.splat(0.0); $V]; R];
                                if start > 0 {
                                    for (r, sums) in sums.iter_mut().enumerate() {
                                        for (v, sum) in sums.iter_mut().enumerate() {
                                            *sum = simd.load(out.add(r * out_stride + v * S::LANES));
                                        }
                                    }
                                }
                                for k in start..end {
                                    let value = values.add(k * width);
                                    rank1_update(simd, weights.add(k), weight_stride, value, &mut sums);
                                }
                                for (r, sums) in sums.into_iter().enumerate() {
                                    for (v, sum) in sums.into_iter().enumerate() {
                                        simd.store(out.add(r * out_stride + v * S::LANES), sum);
                                    }
                                }
                            }
                            column += $V * S::LANES;
                        }
                    )*
                };
            }
            // Sums, values and a weight must fit into 16 registers.
            columns!(8 4 3 2 1);
        });
    }
}

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for row-major `keys`, without packing them. Rows of
/// `out` are `out_stride` apart.
#[inline(always)]
pub fn unpacked_scores<S: Simd>(
    simd: S,
    query: &[f32],
    head_dim: usize,
    keys: &[f32],
    out: &mut [f32],
    out_stride: usize,
) {
    let whole = head_dim / S::LANES * S::LANES;
    let rows = query.len() / head_dim;
    for_each_row_tile!(rows, row, R => {
        let query = &query[row * head_dim..][..R * head_dim];
        for (k, key) in keys.chunks_exact(head_dim).enumerate() {
            let mut sums = [simd.splat(0.0); R];
            for d in (0..whole).step_by(S::LANES) {
                let vector = simd.read(&key[d..]);
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add(simd.read(&query[r * head_dim + d..]), vector, *sum);
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let mut sum = simd.reduce_sum(sum);
                for d in whole..head_dim {
                    sum += query[r * head_dim + d] * key[d];
                }
                out[(row + r) * out_stride + k] = sum;
            }
        }
    });
}
