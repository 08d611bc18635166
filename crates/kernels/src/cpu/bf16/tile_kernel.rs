//! What the instruction sets of bf16 GEMM implement: the multiplication of one tile.

/// Block of the inner dimension: a row of an AMX tile. Missing elements are zeros.
pub const INNER_BLOCK: usize = 32;
/// Elements of a block of 16 columns.
pub const BLOCK_LEN: usize = INNER_BLOCK * crate::sizes::PANEL;
/// Elements of half a block: 16 of the inner dimension.
pub const HALF_BLOCK_LEN: usize = BLOCK_LEN / 2;

/// A tile: some rows times one or two panels of 16 columns.
#[derive(Debug, Clone, Copy)]
pub struct TileArgs {
    /// First block of the first row; the next row's is 32 elements later.
    pub lhs: *const u16,
    /// Elements from a block to the next.
    pub lhs_block_stride: usize,
    /// First block of the first panel; the next block is 512 elements later.
    pub rhs: *const u16,
    /// Elements from the first panel to the second.
    pub rhs_panel_stride: usize,
    pub blocks: usize,
    /// First row and column of the output.
    pub out: *mut f32,
    /// Elements from a row of the output to the next.
    pub out_row_stride: usize,
    /// At least 1, at most [`TileKernel::TILE_ROWS`].
    pub rows: usize,
    /// 1 to 32; those from 16 on belong to the second panel.
    pub columns: usize,
    /// Whether to add to the output instead of overwriting it.
    pub accumulate: bool,
}

/// Instructions that multiply tiles.
pub trait TileKernel {
    /// Maximum number of rows of a tile.
    const TILE_ROWS: usize;

    /// Transposes 16 columns of 8 pairs, `[16][8][2]`, into `[8][16][2]`.
    fn transpose_pairs(&self, columns: &[u16; HALF_BLOCK_LEN], to: &mut [u16; HALF_BLOCK_LEN]);

    /// Multiplies one tile.
    ///
    /// # Safety
    /// All elements of the tile are valid, and nobody else accesses those of the output.
    unsafe fn tile(&mut self, tile: &TileArgs);
}
