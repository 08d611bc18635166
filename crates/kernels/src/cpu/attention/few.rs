//! Products of one to four rows, which keep several sums of each row going: a sum must wait for
//! the one before it.

use crate::cpu::simd::Simd;

use super::PANEL;

/// Rows of values whose columns are done one after the other before the next rows are read.
const NEAR: usize = 32;

/// Calls `$work` with `R` bound to 4, 3, 2 or 1 until all rows are done.
macro_rules! by_rows {
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

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for all keys of `panels`, `[head_dim, 16]` each; rows
/// of `out` are `out_row` apart.
#[inline(always)]
pub fn scores<S: Simd>(
    simd: S,
    query: &[f32],
    head_dim: usize,
    panels: &[f32],
    out: &mut [f32],
    out_row: usize,
) {
    let rows = query.len() / head_dim;
    let slots = panels.len() / (PANEL * head_dim) * PANEL;
    assert!(rows > 0 && (rows - 1) * out_row + slots <= out.len(), "{rows} x {slots} scores");
    by_rows!(rows, row, R => {
        for (i, panel) in panels.chunks_exact(PANEL * head_dim).enumerate() {
            let query = query[row * head_dim..][..R * head_dim].as_ptr();
            let out = out[row * out_row + i * PANEL..].as_mut_ptr();
            // SAFETY: `R` rows of queries are there, as is a panel; `R` rows of `out` are, as the
            // last of all is.
            unsafe {
                if S::LANES == PANEL {
                    score_panel::<S, R, 1, 4>(simd, head_dim, query, panel.as_ptr(), out, out_row);
                } else if R == 4 {
                    score_panel::<S, R, 2, 1>(simd, head_dim, query, panel.as_ptr(), out, out_row);
                } else {
                    score_panel::<S, R, 2, 2>(simd, head_dim, query, panel.as_ptr(), out, out_row);
                }
            }
        }
    });
}

/// `R` rows times one panel of `V` vectors, each sum in `U` parts.
///
/// # Safety
/// `query` points to `R` rows of `depth` numbers, `panel` to `depth` times 16, `out` to `R` rows
/// of 16, `out_row` apart.
#[inline(always)]
unsafe fn score_panel<S: Simd, const R: usize, const V: usize, const U: usize>(
    simd: S,
    depth: usize,
    query: *const f32,
    panel: *const f32,
    out: *mut f32,
    out_row: usize,
) {
    let mut sums = [[[simd.splat(0.0); V]; R]; U];
    // SAFETY: the caller's; `d + u < depth`.
    unsafe {
        let mut d = 0;
        while d + U <= depth {
            for (u, sums) in sums.iter_mut().enumerate() {
                add_term(simd, query.add(d + u), depth, panel.add((d + u) * PANEL), sums);
            }
            d += U;
        }
        while d < depth {
            add_term(simd, query.add(d), depth, panel.add(d * PANEL), &mut sums[0]);
            d += 1;
        }
        for r in 0..R {
            for v in 0..V {
                let mut sum = sums[0][r][v];
                for more in &sums[1..] {
                    sum = simd.add(sum, more[r][v]);
                }
                simd.store(out.add(r * out_row + v * S::LANES), sum);
            }
        }
    }
}

/// Adds `left[r] * right` to each row of `sums`.
///
/// # Safety
/// `left` points to `R` numbers `row` apart, `right` to `V` vectors.
#[inline(always)]
unsafe fn add_term<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: *const f32,
    row: usize,
    right: *const f32,
    sums: &mut [[S::F; V]; R],
) {
    // SAFETY: the caller's.
    unsafe {
        let vectors: [S::F; V] = std::array::from_fn(|v| simd.load(right.add(v * S::LANES)));
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = simd.splat(*left.add(r * row));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add(x, vector, *sum);
            }
        }
    }
}

/// `out[r][c] = Σ_k weights[r][k] values[k][c]` for `width` columns, whole vectors, of the
/// `values`; rows of `weights` and `out` are `weight_row` and `out_row` apart.
#[inline(always)]
pub fn weighted<S: Simd>(
    simd: S,
    [rows, slots, width]: [usize; 3],
    (weights, weight_row): (&[f32], usize),
    values: &[f32],
    (out, out_row): (&mut [f32], usize),
) {
    assert!(rows > 0 && slots > 0 && width.is_multiple_of(S::LANES), "{rows} x {slots} x {width}");
    assert!((rows - 1) * weight_row + slots <= weights.len(), "{rows} x {slots} weights");
    assert!(slots * width <= values.len(), "{slots} x {width} values");
    assert!((rows - 1) * out_row + width <= out.len(), "{rows} x {width} sums");
    for start in (0..slots).step_by(NEAR) {
        let end = slots.min(start + NEAR);
        by_rows!(rows, row, R => {
            let weights = weights[row * weight_row..].as_ptr();
            let out = out[row * out_row..].as_mut_ptr();
            let mut column = 0;
            macro_rules! columns {
                ($($V:literal)*) => {
                    $(
                        while $V * R <= 9 && width - column >= $V * S::LANES {
                            // SAFETY: the last element of all rows of all three is there, as was
                            // checked above; `column` and `$V` vectors more are within `width`.
                            unsafe {
                                let values = values.as_ptr().add(column);
                                let out = out.add(column);
                                let mut sums = [[simd.splat(0.0); $V]; R];
                                if start > 0 {
                                    for (r, sums) in sums.iter_mut().enumerate() {
                                        for (v, sum) in sums.iter_mut().enumerate() {
                                            *sum = simd.load(out.add(r * out_row + v * S::LANES));
                                        }
                                    }
                                }
                                for k in start..end {
                                    let value = values.add(k * width);
                                    add_term(simd, weights.add(k), weight_row, value, &mut sums);
                                }
                                for (r, sums) in sums.into_iter().enumerate() {
                                    for (v, sum) in sums.into_iter().enumerate() {
                                        simd.store(out.add(r * out_row + v * S::LANES), sum);
                                    }
                                }
                            }
                            column += $V * S::LANES;
                        }
                    )*
                };
            }
            // Sums, values and a weight have to fit into 16 registers.
            columns!(8 4 3 2 1);
        });
    }
}

/// `out[r][k] = Σ_d query[r][d] key[k][d]` for `keys` in rows, without packing them; rows of
/// `out` are `out_row` apart.
#[inline(always)]
pub fn dots<S: Simd>(
    simd: S,
    query: &[f32],
    head_dim: usize,
    keys: &[f32],
    out: &mut [f32],
    out_row: usize,
) {
    let whole = head_dim / S::LANES * S::LANES;
    let rows = query.len() / head_dim;
    by_rows!(rows, row, R => {
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
                let mut sum = simd.sum(sum);
                for d in whole..head_dim {
                    sum += query[r * head_dim + d] * key[d];
                }
                out[(row + r) * out_row + k] = sum;
            }
        }
    });
}
