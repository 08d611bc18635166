//! Panels: 16 rows of a matrix, whose elements of one column are neighbors, `[panel][column][16]`.

use bytemuck::Pod;

use super::aligned_vec::AlignedVec;
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
        if <$S as $crate::cpu::simd::Simd>::LANES == $crate::sizes::PANEL {
            const $V: usize = 1;
            $work
        } else {
            const $V: usize = 2;
            $work
        }
    };
}
pub(super) use with_panel_vectors;
