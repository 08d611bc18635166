//! The left side of a product: rows of the batch, rounded to bf16 once for all tasks.
//!
//! ```text
//! [row][width], f32 ─► [block of 32 terms][row][32], bf16
//! ```
//!
//! Rows lie 64 bytes apart: 16 of them are a tile of AMX, and any number of them share few cache
//! sets.

use super::super::packed::PANEL;
use super::super::threads::{self, Shared};
use super::super::workspace;
use super::{BLOCK, Bf16Kernel};

/// Rows that a task rounds.
const ROWS: usize = 16;

/// Rounded rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounded<'a> {
    pub numbers: &'a [u16],
    pub rows: usize,
    pub blocks: usize,
}

/// Runs `work` with rounded rows: those columns of each row of `width` that `parts` names, from one
/// column up to another. Each part begins at a multiple of 16 terms; what is between is zeros.
pub(super) fn with(
    way: Bf16Kernel,
    from: &[f32],
    width: usize,
    parts: &[[usize; 2]],
    work: impl FnOnce(Rounded),
) {
    let rows = from.len() / width;
    let halves = parts.iter().map(|[from, to]| (to - from).div_ceil(PANEL)).sum::<usize>();
    let blocks = (halves * PANEL).div_ceil(BLOCK);
    workspace::with_u16_buffer(blocks * rows * BLOCK, |numbers| {
        let shared = Shared::new(numbers);
        threads::for_each(rows.div_ceil(ROWS), |task| {
            let first = task * ROWS;
            let last = rows.min(first + ROWS);
            way.vectorize(
                #[inline(always)]
                || {
                    let place = |half: usize, row: usize| {
                        (half / 2 * rows + row) * BLOCK + half % 2 * PANEL
                    };
                    let mut half = 0;
                    for &[start, end] in parts {
                        for column in (start..end).step_by(PANEL) {
                            for row in first..last {
                                let from = &from[row * width..][column..end.min(column + PANEL)];
                                // SAFETY: each task has rows of its own.
                                round(from, unsafe { shared.part(place(half, row), PANEL) });
                            }
                            half += 1;
                        }
                    }
                    for half in half..2 * blocks {
                        for row in first..last {
                            // SAFETY: as above.
                            unsafe { shared.part(place(half, row), PANEL) }.fill(0);
                        }
                    }
                },
            );
        });
        work(Rounded { numbers, rows, blocks });
    });
}

/// Up to 16 numbers, and zeros for the missing ones.
#[inline(always)]
fn round(from: &[f32], to: &mut [u16]) {
    if let Ok(from) = <&[f32; PANEL]>::try_from(from) {
        to.copy_from_slice(&from.map(nearest));
    } else {
        let mut all = [0.0; PANEL];
        all[..from.len()].copy_from_slice(from);
        to.copy_from_slice(&all.map(nearest));
    }
}

/// The nearest number in bf16, of two the even one. Unlike `bf16::from_f32` it becomes vectors.
#[inline(always)]
pub(super) fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    ((if value.is_nan() { quiet } else { rounded }) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::nearest;

    #[test]
    fn numbers_are_rounded_to_the_nearest() {
        let special =
            [0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::NAN, 1e-40].into_iter();
        let signalling = [0x7f80_0001, 0xffff_ffff].into_iter().map(f32::from_bits);
        // Around 1, with all ways to round.
        let near = (0x3f7f_0000..0x3f82_0000).step_by(0x1fff).map(f32::from_bits);
        let halves = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff].map(f32::from_bits);
        for value in special.chain(signalling).chain(near).chain(halves) {
            for value in [value, -value] {
                assert_eq!(nearest(value), bf16::from_f32(value).to_bits(), "{value}");
            }
        }
    }
}
