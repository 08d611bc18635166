//! The left matrix of a GEMM in bf16: rows of the batch, rounded to bf16 once for all tasks.
//!
//! ```text
//! [row][width], f32 ─► [block of 32][row][32], bf16
//! ```
//!
//! Rows are 64 bytes apart: 16 of them are an AMX tile, and they do not share cache sets.

use super::super::threads::{self, SharedSlice};
use super::super::workspace;
use super::kernel::Bf16Kernel;
use super::tile_kernel::INNER_BLOCK;
use crate::sizes::PANEL;

/// Rows that one task rounds.
const ROWS_PER_TASK: usize = 16;

/// Rounded rows, `[blocks][rows][32]`.
#[derive(Debug, Clone, Copy)]
pub struct Bf16Rows<'a> {
    /// Bits of the elements.
    pub elements: &'a [u16],
    pub rows: usize,
    pub blocks: usize,
}

/// Calls `work` with rounded rows: the columns of `from` in each of `ranges`, `[start, end]`, of
/// rows of `width`. Each range starts at a multiple of 16 of the inner dimension; what is between
/// ranges is zero.
pub fn with_bf16_rows(
    kernel: Bf16Kernel,
    from: &[f32],
    width: usize,
    ranges: &[[usize; 2]],
    work: impl FnOnce(Bf16Rows),
) {
    let rows = from.len() / width;
    let halves = ranges.iter().map(|[start, end]| (end - start).div_ceil(PANEL)).sum::<usize>();
    let blocks = (halves * PANEL).div_ceil(INNER_BLOCK);
    workspace::with_u16_buffer(blocks * rows * INNER_BLOCK, |elements| {
        let shared = SharedSlice::new(elements);
        threads::parallel_for(rows.div_ceil(ROWS_PER_TASK), |task| {
            let first = task * ROWS_PER_TASK;
            let last = rows.min(first + ROWS_PER_TASK);
            kernel.vectorize(
                #[inline(always)]
                || {
                    let index = |half: usize, row: usize| {
                        (half / 2 * rows + row) * INNER_BLOCK + half % 2 * PANEL
                    };
                    let mut half = 0;
                    for &[start, end] in ranges {
                        for column in (start..end).step_by(PANEL) {
                            for row in first..last {
                                let from = &from[row * width..][column..end.min(column + PANEL)];
                                // SAFETY: the tasks' rows do not overlap.
                                let to = unsafe { shared.slice_mut(index(half, row), PANEL) };
                                round_to_panel(from, to);
                            }
                            half += 1;
                        }
                    }
                    for half in half..2 * blocks {
                        for row in first..last {
                            // SAFETY: the tasks' rows do not overlap.
                            unsafe { shared.slice_mut(index(half, row), PANEL) }.fill(0);
                        }
                    }
                },
            );
        });
        work(Bf16Rows { elements, rows, blocks });
    });
}

/// Rounds elements to bf16, and back to f32.
///
/// # Panics
/// If the slices differ in length.
pub fn round_elements(kernel: Bf16Kernel, from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "the slices differ in length");
    kernel.vectorize(
        #[inline(always)]
        || {
            for (to, &value) in to.iter_mut().zip(from) {
                *to = f32::from_bits(u32::from(round_to_bf16(value)) << 16);
            }
        },
    );
}

/// Rounds up to 16 elements and pads them with zeros.
#[inline(always)]
fn round_to_panel(from: &[f32], to: &mut [u16]) {
    if let Ok(from) = <&[f32; PANEL]>::try_from(from) {
        to.copy_from_slice(&from.map(round_to_bf16));
    } else {
        let mut padded = [0.0; PANEL];
        padded[..from.len()].copy_from_slice(from);
        to.copy_from_slice(&padded.map(round_to_bf16));
    }
}

/// Rounds to the nearest bf16, ties to even. Unlike `bf16::from_f32` the compiler vectorizes it.
#[inline(always)]
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    ((if value.is_nan() { quiet } else { rounded }) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::round_to_bf16;

    #[test]
    fn rounding_is_to_nearest_even() {
        let special =
            [0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::NAN, 1e-40].into_iter();
        let signaling = [0x7f80_0001, 0xffff_ffff].into_iter().map(f32::from_bits);
        // Around 1, rounded up and down.
        let near = (0x3f7f_0000..0x3f82_0000).step_by(0x1fff).map(f32::from_bits);
        let halves = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff].map(f32::from_bits);
        for value in special.chain(signaling).chain(near).chain(halves) {
            for value in [value, -value] {
                assert_eq!(round_to_bf16(value), bf16::from_f32(value).to_bits(), "{value}");
            }
        }
    }
}
