//! One task of a GEMM in bf16: some columns of the output, for all rows.

use super::super::threads::SharedSlice;
use super::bf16_rows::Bf16Rows;
use super::tile_kernel::{BLOCK_LEN, INNER_BLOCK, TileArgs, TileKernel};
use super::vnni_panels::VnniPanels;
use crate::sizes::PANEL;

/// Blocks of the inner dimension that are processed at a time: 640 elements, of which 32 columns
/// fill most of the L1 cache.
const MAX_INNER_BLOCKS: usize = 20;

#[derive(Debug)]
pub struct Bf16GemmTask<'a> {
    pub lhs: Bf16Rows<'a>,
    pub rhs: &'a VnniPanels<'a>,
    /// First panel and end of the panels.
    pub panels: [usize; 2],
    /// Columns of the right matrix.
    pub columns: usize,
    /// Column of the output that belongs to the first column of the right matrix.
    pub out_column: usize,
    /// Columns of the output.
    pub out_width: usize,
    pub accumulate: bool,
}

/// Blocks of the inner dimension that are processed at a time, of `blocks`: about equally many each
/// time.
pub fn blocks_per_pass(blocks: usize) -> usize {
    let passes = blocks.div_ceil(MAX_INNER_BLOCKS);
    blocks.div_ceil(passes)
}

impl Bf16GemmTask<'_> {
    /// Elements of the workspace.
    pub fn workspace_len(&self) -> usize {
        let [first, last] = self.panels;
        (last - first) * blocks_per_pass(self.lhs.blocks) * BLOCK_LEN
    }

    /// Overwrites the task's columns of the output, or adds to them.
    ///
    /// # Panics
    /// If the workspace, the input or the output is too short.
    #[inline(always)]
    pub fn run<T: TileKernel>(&self, tiles: &mut T, workspace: &mut [u16], out: &SharedSlice<f32>) {
        let Bf16Rows { elements, rows, blocks } = self.lhs;
        let [first, last] = self.panels;
        let blocks_per_pass = blocks_per_pass(blocks);
        for from in (0..blocks).step_by(blocks_per_pass) {
            let end = blocks.min(from + blocks_per_pass);
            let panel_len = (end - from) * BLOCK_LEN;
            let rhs = &mut workspace[..(last - first) * panel_len];
            self.rhs.pack(tiles, self.panels, [from, end], rhs);
            for row in (0..rows).step_by(T::TILE_ROWS) {
                for panel in (first..last).step_by(2) {
                    let column = panel * PANEL;
                    let tile = TileArgs {
                        lhs: elements[(from * rows + row) * INNER_BLOCK..].as_ptr(),
                        lhs_block_stride: rows * INNER_BLOCK,
                        rhs: rhs[(panel - first) * panel_len..].as_ptr(),
                        rhs_panel_stride: panel_len,
                        blocks: end - from,
                        out: out.ptr_at(row * self.out_width + self.out_column + column),
                        out_row_stride: self.out_width,
                        rows: T::TILE_ROWS.min(rows - row),
                        columns: (self.columns.min(last * PANEL) - column).min(2 * PANEL),
                        accumulate: self.accumulate || from > 0,
                    };
                    // SAFETY: each block has all rows. `rhs` has the blocks of this panel, and of
                    // the next one if there are more than 16 columns. The output has these columns
                    // of these rows, and no other task writes to them.
                    unsafe { tiles.tile(&tile) };
                }
            }
        }
    }
}
