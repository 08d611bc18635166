//! How the backward pass divides sequences: into chunks, which are tasks, and chunks into blocks of
//! keys.

use std::ops::Range;

use crate::sizes::{MAX_ATTENTION_CHUNKS, MIN_ATTENTION_CHUNK, PANEL};

use super::group_shape::GroupShape;

/// Positions of a block of keys.
pub const KEY_BLOCK: usize = 96;
/// Elements from a row of scores to the next: not a power of two, which would map all rows to the
/// same cache sets.
pub const SCORE_STRIDE: usize = KEY_BLOCK + PANEL;

/// The chunks of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    /// Number of chunks.
    pub count: usize,
    /// Positions of a chunk; the last may have fewer.
    pub positions: usize,
    /// Where the partial gradients of the queries of its chunks start: `[count, kv_heads, len,
    /// group, width]`.
    pub partial_dq: usize,
    /// Number of chunks of the sequences before it.
    pub first: usize,
}

impl Chunking {
    /// The chunks of a sequence of `len` tokens.
    pub fn new(len: usize, partial_dq: usize, first: usize) -> Self {
        let positions =
            MIN_ATTENTION_CHUNK.max(len.div_ceil(MAX_ATTENTION_CHUNKS)).next_multiple_of(KEY_BLOCK);
        Self { count: len.div_ceil(positions), positions, partial_dq, first }
    }

    /// Positions of one chunk.
    pub fn chunk(self, number: usize, len: usize) -> Range<usize> {
        number * self.positions..len.min((number + 1) * self.positions)
    }

    /// Start and length of the partial gradient of the queries, of chunk and KV head `number`.
    pub fn partial_dq_span(self, shape: GroupShape, len: usize, number: usize) -> (usize, usize) {
        let span = len * shape.group * shape.width;
        (self.partial_dq + number * span, span)
    }
}
