//! Where the keys and values of each sequence are stored: always in blocks of 32 positions.
//!
//! ```text
//! block of one KV head:  keys    2 panels of 16 positions, [head_dim][16] each
//!                        values  [32 positions][head_dim]
//! ```

use std::ops::Range;

use crate::sizes::BLOCK_TOKENS;

use super::inputs::AttentionDims;

/// The blocks of one sequence in the buffers of all sequences.
#[derive(Debug, Clone, Copy)]
pub enum KvSpan<'a> {
    /// One block after another, KV head by KV head.
    Contiguous {
        /// Start of the first KV head's.
        start: usize,
        /// Positions of each KV head, a multiple of 32.
        positions: usize,
    },
    /// Blocks of a cache, `[block][kv_heads][32 head_dim]`.
    Table(&'a [u32]),
}

impl<'a> KvSpan<'a> {
    /// The blocks of one KV head.
    pub fn of_head(self, heads: AttentionDims, kv_head: usize) -> HeadBlocks<'a> {
        let AttentionDims { kv_heads, head_dim, .. } = heads;
        let len = BLOCK_TOKENS * head_dim;
        match self {
            Self::Contiguous { start, positions } => {
                let start = start + kv_head * positions * head_dim;
                HeadBlocks { table: None, start, stride: len, len }
            }
            Self::Table(table) => {
                HeadBlocks { table: Some(table), start: kv_head * len, stride: kv_heads * len, len }
            }
        }
    }
}

/// The blocks of one KV head of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct HeadBlocks<'a> {
    /// The sequence's blocks in the buffer; `None` if they follow one another.
    table: Option<&'a [u32]>,
    /// Start of the head in block 0 of the buffer.
    start: usize,
    /// Elements from a block of the buffer to the next.
    stride: usize,
    /// Elements of a block of one head.
    pub len: usize,
}

impl HeadBlocks<'_> {
    /// Where a block of the sequence starts.
    pub fn start_of(self, block: usize) -> usize {
        let block = self.table.map_or(block, |table| table[block] as usize);
        self.start + block * self.stride
    }
}

/// Keys and values of one KV head of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct KeyValueView<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    blocks: HeadBlocks<'a>,
}

impl<'a> KeyValueView<'a> {
    /// The blocks of one KV head in the buffers of all sequences.
    pub fn new([keys, values]: [&'a [f32]; 2], blocks: HeadBlocks<'a>) -> Self {
        Self { keys, values, blocks }
    }

    /// Keys in panels and values in rows, one after another. The last block may be incomplete.
    pub fn contiguous(keys: &'a [f32], values: &'a [f32], head_dim: usize) -> Self {
        let len = BLOCK_TOKENS * head_dim;
        Self { keys, values, blocks: HeadBlocks { table: None, start: 0, stride: len, len } }
    }

    /// The keys of a block: panels of 16 positions, `[2, head_dim, 16]`.
    pub fn block_keys(self, block: usize) -> &'a [f32] {
        let start = self.blocks.start_of(block);
        &self.keys[start..self.keys.len().min(start + self.blocks.len)]
    }

    /// The values of a range of positions, `[positions, head_dim]`, as far as they follow one
    /// another at a time.
    pub fn value_runs(
        self,
        positions: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, &'a [f32])> {
        let Self { values, blocks, .. } = self;
        let head_dim = blocks.len / BLOCK_TOKENS;
        let Range { mut start, end } = positions;
        std::iter::from_fn(move || {
            let first = start;
            if first >= end {
                return None;
            }
            let block = first / BLOCK_TOKENS;
            start = match blocks.table {
                Some(_) => end.min((block + 1) * BLOCK_TOKENS),
                None => end,
            };
            let at = blocks.start_of(block) + first % BLOCK_TOKENS * head_dim;
            Some((first..start, &values[at..at + (start - first) * head_dim]))
        })
    }
}
