//! The same arithmetic in plain Rust: what other tiles are compared with, on every machine.

use half::bf16;

use super::super::packed::PANEL;
use super::task::{Tile, TileKernel};
use super::{BLOCK, pairs};

pub(super) struct Plain;

impl TileKernel for Plain {
    const ROWS: usize = 3;

    fn turn(&self, columns: &[u16; pairs::HALF_BLOCK_LEN], to: &mut [u16; pairs::HALF_BLOCK_LEN]) {
        for (column, line) in columns.chunks_exact(PANEL).enumerate() {
            for (pair, numbers) in line.chunks_exact(2).enumerate() {
                to[(pair * PANEL + column) * 2..][..2].copy_from_slice(numbers);
            }
        }
    }

    unsafe fn tile(&mut self, tile: &Tile) {
        let number = |from: *const u16, at: usize| {
            // SAFETY: the caller's; what is asked for below is in the blocks.
            bf16::from_bits(unsafe { *from.add(at) }).to_f32()
        };
        for row in 0..tile.rows {
            for column in 0..tile.columns {
                let right = column / PANEL * tile.rhs_panel_stride + column % PANEL * 2;
                let mut sum = 0.0;
                for block in 0..tile.blocks {
                    for term in 0..BLOCK {
                        let x =
                            number(tile.left, block * tile.lhs_block_stride + row * BLOCK + term);
                        let pair = block * pairs::NUMBERS + term / 2 * 2 * PANEL;
                        sum += x * number(tile.right, right + pair + term % 2);
                    }
                }
                // SAFETY: the caller's.
                let to = unsafe { &mut *tile.out.add(row * tile.out_row + column) };
                *to = if tile.add { *to + sum } else { sum };
            }
        }
    }
}
