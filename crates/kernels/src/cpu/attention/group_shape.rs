//! The shape of a block of queries for one instruction set.

use crate::cpu::simd::Simd;

use super::inputs::AttentionDims;

/// Maximum number of rows of a block of queries: queries times query heads that share keys.
const MAX_BLOCK_ROWS: usize = 96;

/// Width of a head, and number of query heads that share keys.
#[derive(Debug, Clone, Copy)]
pub struct GroupShape {
    /// Width of a head.
    pub head_dim: usize,
    /// `head_dim`, rounded up to whole vectors.
    pub width: usize,
    /// Query heads that share keys.
    pub group: usize,
}

impl GroupShape {
    /// The shape for the vectors of `S`.
    pub fn new<S: Simd>(heads: AttentionDims) -> Self {
        let head_dim = heads.head_dim;
        Self { head_dim, width: head_dim.next_multiple_of(S::LANES), group: heads.group_size() }
    }

    /// Queries of a block.
    pub fn queries(self) -> usize {
        (MAX_BLOCK_ROWS / self.group).max(1)
    }

    /// The smallest number of queries whose rows are whole tiles of the microkernel.
    pub fn queries_per_tile<S: Simd>(self) -> usize {
        let tile = S::TILE_ROWS;
        (1..tile).find(|queries| (queries * self.group).is_multiple_of(tile)).unwrap_or(tile)
    }
}
