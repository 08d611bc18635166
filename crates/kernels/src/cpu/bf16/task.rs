//! One task of a product: some columns of it, for all rows.

use super::super::packed::PANEL;
use super::super::threads::Shared;
use super::BLOCK;
use super::pairs::{self, Pairs};
use super::rounded::Rounded;

/// Blocks that are worked on at a time: 640 terms, of which 32 columns fill most of the nearest
/// cache.
const BLOCKS: usize = 20;

/// Some rows times one or two vectors of 16 columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// The first row's first block; the next row lies 32 numbers behind it.
    pub left: *const u16,
    /// From a block to the next.
    pub lhs_block_stride: usize,
    /// The first vector's first block; the next block lies 512 numbers behind it.
    pub right: *const u16,
    /// From the first vector to the second.
    pub rhs_panel_stride: usize,
    pub blocks: usize,
    /// The first row's first column.
    pub out: *mut f32,
    /// From a row to the next.
    pub out_row: usize,
    /// At least 1.
    pub rows: usize,
    /// 1 to 32; the second vector's begin at 16.
    pub columns: usize,
    /// Whether the product is added to what is there.
    pub add: bool,
}

/// Instructions that multiply tiles.
pub(super) trait TileKernel {
    /// Rows of a tile at the most.
    const ROWS: usize;

    /// 16 columns of 8 pairs, `[16][8][2]`, turned over into `[8][16][2]`.
    fn turn(&self, columns: &[u16; pairs::HALF_BLOCK_LEN], to: &mut [u16; pairs::HALF_BLOCK_LEN]);

    /// One tile.
    ///
    /// # Safety
    /// All numbers that the tile names exist, and nobody else looks at those of `out`.
    unsafe fn tile(&mut self, tile: &Tile);
}

#[derive(Debug)]
pub(super) struct Task<'a> {
    pub left: Rounded<'a>,
    pub right: &'a Pairs<'a>,
    /// Vectors of 16 columns: the first one, and the one behind the last one.
    pub vectors: [usize; 2],
    /// Columns of the product.
    pub columns: usize,
    /// The product's first column in the output.
    pub at: usize,
    /// Columns of the output.
    pub width: usize,
    pub add: bool,
}

impl Task<'_> {
    /// Blocks at a time: no few of them are left for the last time.
    fn blocks(&self) -> usize {
        let times = self.left.blocks.div_ceil(BLOCKS);
        self.left.blocks.div_ceil(times)
    }

    /// Numbers of the workspace.
    pub fn scratch(&self) -> usize {
        let [first, last] = self.vectors;
        (last - first) * self.blocks() * pairs::NUMBERS
    }

    #[inline(always)]
    pub fn run<T: TileKernel>(&self, tiles: &mut T, scratch: &mut [u16], out: &Shared<f32>) {
        let Rounded { numbers, rows, blocks } = self.left;
        let [first, last] = self.vectors;
        for from in (0..blocks).step_by(self.blocks()) {
            let end = blocks.min(from + self.blocks());
            let part = (end - from) * pairs::NUMBERS;
            let right = &mut scratch[..(last - first) * part];
            self.right.write(tiles, self.vectors, [from, end], right);
            for row in (0..rows).step_by(T::ROWS) {
                for vector in (first..last).step_by(2) {
                    let column = vector * PANEL;
                    let tile = Tile {
                        left: numbers[(from * rows + row) * BLOCK..].as_ptr(),
                        lhs_block_stride: rows * BLOCK,
                        right: right[(vector - first) * part..].as_ptr(),
                        rhs_panel_stride: part,
                        blocks: end - from,
                        out: out.pointer(row * self.width + self.at + column),
                        out_row: self.width,
                        rows: T::ROWS.min(rows - row),
                        columns: (self.columns.min(last * PANEL) - column).min(2 * PANEL),
                        add: self.add || from > 0,
                    };
                    // SAFETY: all rows from `row` on are in all blocks; `right` has the blocks of
                    // one vector, and of a second one where there are more than 16 columns; no
                    // other task writes to these columns of the output.
                    unsafe { tiles.tile(&tile) };
                }
            }
        }
    }
}
