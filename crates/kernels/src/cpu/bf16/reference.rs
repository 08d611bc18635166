//! The same arithmetic in plain Rust, which the other kernels are compared with on every machine.

use half::bf16;

use super::tile_kernel::{BLOCK_LEN, HALF_BLOCK_LEN, INNER_BLOCK, TileArgs, TileKernel};
use crate::sizes::PANEL;

pub struct ReferenceTiles;

impl TileKernel for ReferenceTiles {
    const TILE_ROWS: usize = 3;

    fn transpose_pairs(&self, columns: &[u16; HALF_BLOCK_LEN], to: &mut [u16; HALF_BLOCK_LEN]) {
        for (column, pairs) in columns.chunks_exact(PANEL).enumerate() {
            for (k, pair) in pairs.chunks_exact(2).enumerate() {
                to[(k * PANEL + column) * 2..][..2].copy_from_slice(pair);
            }
        }
    }

    unsafe fn tile(&mut self, tile: &TileArgs) {
        let element = |from: *const u16, at: usize| {
            // SAFETY: the caller guarantees that the blocks are valid; all indices below are in
            // them.
            bf16::from_bits(unsafe { *from.add(at) }).to_f32()
        };
        for row in 0..tile.rows {
            for column in 0..tile.columns {
                let rhs = column / PANEL * tile.rhs_panel_stride + column % PANEL * 2;
                let mut sum = 0.0;
                for block in 0..tile.blocks {
                    for k in 0..INNER_BLOCK {
                        let x = element(
                            tile.lhs,
                            block * tile.lhs_block_stride + row * INNER_BLOCK + k,
                        );
                        let pair = block * BLOCK_LEN + k / 2 * 2 * PANEL;
                        sum += x * element(tile.rhs, rhs + pair + k % 2);
                    }
                }
                // SAFETY: the caller guarantees that the output has this element.
                let to = unsafe { &mut *tile.out.add(row * tile.out_row_stride + column) };
                *to = if tile.accumulate { *to + sum } else { sum };
            }
        }
    }
}
