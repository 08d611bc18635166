//! Matrix multiplication for decode, one to four rows at a time. Every sum has the order that it has
//! with many rows, in `matmul`. With so few rows, several panels or columns are processed at a time:
//! an addition waits for the previous one of the same sum.

use crate::cpu::panels::{for_each_panel_tile, max_panels, with_panel_vectors};
use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

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
    panels: &[&[f32]],
    out: &mut [f32],
    out_stride: usize,
) {
    let rows = query.len() / head_dim;
    let positions = panels.len() * PANEL;
    assert!(
        rows > 0 && (rows - 1) * out_stride + positions <= out.len(),
        "{rows} x {positions} scores"
    );
    let whole = panels.iter().all(|panel| panel.len() == PANEL * head_dim);
    assert!(whole, "the keys are not panels of {head_dim} x {PANEL}");
    for_each_row_tile!(rows, row, R => {
        let query = query[row * head_dim..][..R * head_dim].as_ptr();
        for_each_panel_tile!(max_panels::<S>(R), panel in [0, panels.len()], P => {
            let out = out[row * out_stride + panel * PANEL..].as_mut_ptr();
            let panels: [&[f32]; P] = std::array::from_fn(|i| panels[panel + i]);
            let panels = panels.map(<[f32]>::as_ptr);
            // SAFETY: `query` has `R` rows, the panels have `head_dim` rows of 16, and `out` has
            // `R` rows of these panels: it has the last element of all rows.
            unsafe {
                with_panel_vectors!(S, V => {
                    score_panels::<S, R, P, V>(simd, head_dim, query, panels, out, out_stride);
                });
            }
        });
    });
}

/// Multiplies `R` rows by `P` panels of `V` vectors. `out` gets one panel after another.
///
/// # Safety
/// `query` points to `R` rows of `depth` elements, `panels` to `depth` rows of 16 each, and `out`
/// to `R` rows of `P` times 16 that are `out_stride` apart.
#[inline(always)]
unsafe fn score_panels<S: Simd, const R: usize, const P: usize, const V: usize>(
    simd: S,
    depth: usize,
    query: *const f32,
    panels: [*const f32; P],
    out: *mut f32,
    out_stride: usize,
) {
    let mut sums = [[[simd.splat(0.0); V]; R]; P];
    // SAFETY: the caller guarantees `depth` elements of each row.
    unsafe {
        for d in 0..depth {
            for (panel, sums) in panels.into_iter().zip(&mut sums) {
                rank1_update(simd, query.add(d), depth, panel.add(d * PANEL), sums);
            }
        }
        for (p, sums) in sums.into_iter().enumerate() {
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    simd.store(out.add(r * out_stride + p * PANEL + v * S::LANES), sum);
                }
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

/// `out[r][c] += Σ_k weights[r][k] values[k][c]` for `width` columns, whole vectors; what `out` has
/// before is the first term of the sum. Rows of `weights` are `weight_stride` apart.
#[inline(always)]
pub fn continue_weighted_sum<S: Simd>(
    simd: S,
    [rows, positions, width]: [usize; 3],
    (weights, weight_stride): (&[f32], usize),
    values: &[f32],
    out: &mut [f32],
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
    assert!(rows * width <= out.len(), "{rows} x {width} sums");
    // Sums, values and a weight must fit into 32 registers with 16 lanes, 16 with 8 lanes.
    let max_sums = if S::LANES == PANEL { 16 } else { 9 };
    for_each_row_tile!(rows, row, R => {
        let weights = weights[row * weight_stride..].as_ptr();
        let out = out[row * width..].as_mut_ptr();
        let mut column = 0;
        macro_rules! columns {
            ($($V:literal)*) => {
                $(
                    while $V * R <= max_sums && width - column >= $V * S::LANES {
                        // SAFETY: the assertions above check the last element of all three
                        // matrices, and `$V` vectors from `column` on are within `width`.
                        unsafe {
                            let values = values.as_ptr().add(column);
                            let out = out.add(column);
                            let mut sums = [[simd.splat(0.0); $V]; R];
                            for (r, sums) in sums.iter_mut().enumerate() {
                                for (v, sum) in sums.iter_mut().enumerate() {
                                    *sum = simd.load(out.add(r * width + v * S::LANES));
                                }
                            }
                            for k in 0..positions {
                                let value = values.add(k * width);
                                rank1_update(simd, weights.add(k), weight_stride, value, &mut sums);
                            }
                            for (r, sums) in sums.into_iter().enumerate() {
                                for (v, sum) in sums.into_iter().enumerate() {
                                    simd.store(out.add(r * width + v * S::LANES), sum);
                                }
                            }
                        }
                        column += $V * S::LANES;
                    }
                )*
            };
        }
        columns!(8 4 3 2 1);
    });
}
