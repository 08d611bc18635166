//! The arguments of attention.

use crate::cpu::simd::Simd;

use super::block_tables::BlockTables;
use super::prompts::Prompts;
use super::rotary::{CosSin, rotate};

/// Number and width of attention heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionDims {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`: query head `h` uses KV head `h / (heads /
    /// kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
}

impl AttentionDims {
    /// Query heads that share a KV head.
    pub(super) fn group_size(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of a row of `qkv`.
    pub(super) fn qkv_width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Factor of the scores.
    pub(super) fn scale(self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// One sequence of a packed batch: its new tokens are the rows `first_row..first_row + len` and the
/// cache positions `past..past + len`. Sequences do not share rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Row of the first new token.
    pub first_row: usize,
    /// New tokens.
    pub len: usize,
    /// Tokens before them, whose keys and values are in the cache.
    pub past: usize,
    /// Padding positions at the start: a padding position attends to itself only, and no token
    /// attends to it.
    pub padding: usize,
}

/// Rotary embedding, `[rows, head_dim / 2]` each, one row for each row of `qkv`.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

impl<'a> Rotation<'a> {
    /// Cosines and sines of one row.
    fn row_angles(self, row: usize, head_dim: usize) -> (&'a [f32], &'a [f32]) {
        let half = head_dim / 2;
        (&self.cos[row * half..][..half], &self.sin[row * half..][..half])
    }
}

/// Rotated keys, and values, of every sequence, in blocks of 32 positions, owned by the caller.
#[derive(Debug)]
pub struct KvCacheView<'a> {
    /// Panels of 16 positions: `[blocks, kv_heads, 2, head_dim, 16]`.
    pub keys: &'a mut [f32],
    /// `[blocks, kv_heads, 32, head_dim]`
    pub values: &'a mut [f32],
    /// The blocks of each sequence.
    pub tables: &'a BlockTables,
}

/// The inputs of attention.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Number and width of the heads.
    pub heads: AttentionDims,
    /// Query heads, key heads, value heads of each row, not rotated: `[rows, (heads + 2 kv_heads)
    /// head_dim]`.
    pub qkv: &'a [f32],
    /// Rotary embedding of queries and keys.
    pub rotation: Option<Rotation<'a>>,
    /// The sequences. Some rows may belong to none.
    pub sequences: &'a [Sequence],
    /// Number of positions that a token attends to, its own included; unlimited if `None`.
    pub window: Option<usize>,
    /// The gated prompts.
    pub prompts: Prompts<'a>,
}

impl<'a> AttentionInputs<'a> {
    /// Rows of `qkv`.
    pub(super) fn rows(&self) -> usize {
        self.qkv.len() / self.heads.qkv_width()
    }

    /// A query head of one row.
    pub(super) fn query(&self, row: usize, head: usize) -> &'a [f32] {
        let AttentionDims { head_dim, .. } = self.heads;
        &self.qkv[row * self.heads.qkv_width() + head * head_dim..][..head_dim]
    }

    /// Where a query head of one row starts in `qkv`.
    pub(super) fn query_at(&self, row: usize, head: usize) -> usize {
        row * self.heads.qkv_width() + head * self.heads.head_dim
    }

    /// Where a key head of one row starts in `qkv`.
    pub(super) fn key_at(&self, row: usize, kv_head: usize) -> usize {
        self.query_at(row, self.heads.heads + kv_head)
    }

    /// Where a value head of one row starts in `qkv`.
    pub(super) fn value_at(&self, row: usize, kv_head: usize) -> usize {
        self.key_at(row, self.heads.kv_heads + kv_head)
    }

    /// A key head of one row.
    pub(super) fn key(&self, row: usize, kv_head: usize) -> &'a [f32] {
        self.query(row, self.heads.heads + kv_head)
    }

    /// A value head of one row.
    pub(super) fn value(&self, row: usize, kv_head: usize) -> &'a [f32] {
        self.query(row, self.heads.heads + self.heads.kv_heads + kv_head)
    }

    /// The rotary embedding of one row.
    pub(super) fn cos_sin(&self, row: usize) -> CosSin<'a> {
        self.rotation.map(|rotation| rotation.row_angles(row, self.heads.head_dim))
    }

    /// Writes rotated and scaled queries, `[queries, group, head_dim]`: those of the rows from
    /// `first_row` on and of the query heads that share `kv_head`.
    pub(super) fn load_queries<S: Simd>(
        &self,
        simd: S,
        first_row: usize,
        kv_head: usize,
        to: &mut [f32],
    ) {
        let group = self.heads.group_size();
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in to.chunks_exact_mut(self.heads.head_dim).enumerate() {
                    let row = first_row + i / group;
                    let from = self.query(row, kv_head * group + i % group);
                    rotate(simd, from, self.cos_sin(row), self.heads.scale(), to);
                }
            },
        );
    }

    /// Whether some rows belong to no sequence.
    pub(super) fn has_gaps(&self) -> bool {
        self.sequences.iter().map(|sequence| sequence.len).sum::<usize>() < self.rows()
    }
}
