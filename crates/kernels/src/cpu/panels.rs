//! Panels: 16 rows of a matrix, whose elements of one column are neighbors, `[panel][column][16]`.

use bytemuck::Pod;

use super::aligned_vec::AlignedVec;
use super::simd::Simd;
use crate::sizes::PANEL;

/// Packs row-major values into panels; the last panel is padded with zeros.
pub(super) fn pack_panels<T: Copy, U: Pod>(
    values: &[T],
    columns: usize,
    convert: impl Fn(T) -> U,
) -> AlignedVec<U> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let mut packed = AlignedVec::zeros(rows.next_multiple_of(PANEL) * columns);
    let panels = packed.as_mut_slice().chunks_exact_mut((PANEL * columns).max(1));
    for (panel, values) in panels.zip(values.chunks((PANEL * columns).max(1))) {
        for (lane, row) in values.chunks_exact(columns).enumerate() {
            for (to, &value) in panel[lane..].iter_mut().step_by(PANEL).zip(row) {
                *to = convert(value);
            }
        }
    }
    packed
}

/// Evaluates an expression with the constant `$V` bound to the number of vectors of the instruction
/// set `$S` that 16 elements take: 1 or 2.
macro_rules! with_panel_vectors {
    ($S:ty, $V:ident => $work:expr) => {
        // In a `const`, so that the other branch is not compiled.
        if const { <$S as $crate::cpu::simd::Simd>::LANES == $crate::sizes::PANEL } {
            const $V: usize = 1;
            $work
        } else {
            const $V: usize = 2;
            $work
        }
    };
}
pub(super) use with_panel_vectors;

/// Evaluates `$work` for the panels from `$first` to `$end`, with the constant `$P` bound to the
/// number of panels at a time (4, 2 or 1, at most the constant `$max`), and `$panel` to the first of
/// them.
macro_rules! for_each_panel_tile {
    ($max:expr, $panel:ident in [$first:expr, $end:expr], $P:ident => $work:expr) => {
        $crate::cpu::panels::for_each_panel_tile!(
            @tiles [4 2 1] $max, $panel, $first, $end, $P, $work
        )
    };
    (
        @tiles [$($tile:literal)*]
        $max:expr, $panel:ident, $first:expr, $end:expr, $P:ident, $work:expr
    ) => {{
        let mut $panel = $first;
        $(
            // In a `const`, so that it is not compiled for more panels.
            if const { $tile <= $max } {
                const $P: usize = $tile;
                while $end - $panel >= $P {
                    $work;
                    $panel += $P;
                }
            }
        )*
    }};
}
pub(super) use for_each_panel_tile;

/// How many panels are multiplied at a time if each vector of a column needs so many `registers`
/// for its sums and what belongs to it. They take three quarters of the registers at most, which are
/// 32 of 16 lanes, or 16 of 8.
pub(super) const fn max_panels<S: Simd>(registers: usize) -> usize {
    let vectors = 2 * S::LANES * 3 / 4 / registers;
    let panels = vectors * S::LANES / PANEL;
    if panels > 0 { panels } else { 1 }
}
