//! Causal attention of many texts at once, and the gated attention to a prompt beside it, in one
//! pass that never holds all scores.
//!
//! ```text
//! qkv ─► rotate ─┬─► keys, values ─► cache, or a workspace
//!                │         │
//!                └─► q ─► softmax(q · K) V ──────────► + ─► out
//!                    │                                 ▲
//!                    └─► softmax(q · Kp) Vp ─► × gate ─┘
//! ```
//!
//! Scores are made for a block of queries and a block of keys at a time; the softmax is carried
//! from block to block as its largest score and its sum (arXiv 2205.14135). Query heads that share
//! keys are rows of one product.
//!
//! Every task owns its sums, and they are added in a fixed order: results do not depend on the
//! number of threads.

mod backward;
mod blocks;
mod buffers;
mod check;
mod chunk;
mod decode;
mod few;
mod forward;
mod matrix;
mod pack;
mod prompt;
mod queries;
mod reduce;
mod sight;
mod softmax;
#[cfg(test)]
mod tests;

pub use backward::backward;
pub use forward::forward;

/// Slots in a panel of keys.
const PANEL: usize = 16;

/// Heads of an attention, and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionDims {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`: head `h` uses number `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
}

/// One text: rows `first_row` to `first_row + len` are its new tokens, in slots `past` to
/// `past + len` of its keys. Texts share no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Row of its first new token.
    pub first_row: usize,
    /// New tokens.
    pub len: usize,
    /// Tokens before them, whose keys and values are in the cache.
    pub past: usize,
    /// Slots at the start that stand for no token: seen by nobody but themselves.
    pub padding: usize,
}

/// Angles of the rotary embedding, `[rows, head_dim / 2]` each, one row a row of `qkv`.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

/// Keys and values that all tokens of a text attend to as well, through a gate.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// `[batches, kv_heads, len, head_dim]`, not rotated.
    pub key: &'a [f32],
    /// `[batches, kv_heads, len, head_dim]`
    pub value: &'a [f32],
    /// What the branch is multiplied by, `[batches, heads]`.
    pub gate: &'a [f32],
    /// One, shared by all sequences, or one for each of them.
    pub batches: usize,
    /// Prompt tokens.
    pub len: usize,
    /// How many of them are real in each batch, the others being ignored: `[batches]`. A prompt
    /// of none adds nothing.
    pub lens: Option<&'a [usize]>,
}

/// What attention is computed from.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Shape of the heads.
    pub heads: AttentionDims,
    /// Query heads, key heads, value heads of each row, none rotated:
    /// `[rows, (heads + 2 kv_heads) head_dim]`.
    pub qkv: &'a [f32],
    /// Rotary embedding of queries and keys.
    pub rotation: Option<Rotation<'a>>,
    /// The texts. Rows may belong to none.
    pub sequences: &'a [Sequence],
    /// How many slots a token sees, itself included; all before it if absent.
    pub window: Option<usize>,
    /// The prompt.
    pub prompt: Option<Prompt<'a>>,
}

/// Rotated keys, and values, of every sequence, owned by the caller.
///
/// Those of sequence `s` and key head `g` start at `(s * kv_heads + g) * slots * head_dim`, where
/// `slots` is [`Cache::slots`].
#[derive(Debug)]
pub struct Cache<'a> {
    /// Panels of 16 slots: `[sequences, kv_heads, slots / 16, head_dim, 16]`.
    pub keys: &'a mut [f32],
    /// `[sequences, kv_heads, slots, head_dim]`
    pub values: &'a mut [f32],
    /// Tokens that a sequence has room for.
    pub capacity: usize,
}

impl Cache<'_> {
    /// `capacity` rounded up to whole panels.
    pub fn slots(&self) -> usize {
        self.capacity.next_multiple_of(PANEL)
    }
}

/// Gradients with respect to a [`Prompt`], of the same shapes.
#[derive(Debug)]
pub struct PromptGradients<'a> {
    /// `[batches, kv_heads, len, head_dim]`
    pub key: &'a mut [f32],
    /// `[batches, kv_heads, len, head_dim]`
    pub value: &'a mut [f32],
    /// `[batches, heads]`
    pub gate: &'a mut [f32],
}

impl AttentionDims {
    /// Query heads that share a key head.
    fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers in a row of `qkv`.
    fn row(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// What scores are multiplied by.
    fn scale(self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

impl<'a> Rotation<'a> {
    /// Cosines and sines of one row.
    fn at(self, row: usize, head_dim: usize) -> (&'a [f32], &'a [f32]) {
        let half = head_dim / 2;
        (&self.cos[row * half..][..half], &self.sin[row * half..][..half])
    }
}

/// The prompt of one sequence and one key head.
#[derive(Debug, Clone, Copy)]
struct PromptHead<'a> {
    /// `[len, head_dim]`, of real tokens only.
    key: &'a [f32],
    /// `[len, head_dim]`, of real tokens only.
    value: &'a [f32],
    /// `[group]`
    gate: &'a [f32],
    /// Real tokens.
    len: usize,
}

impl<'a> Prompt<'a> {
    /// Which batch a sequence uses.
    fn batch(&self, sequence: usize) -> usize {
        if self.batches == 1 { 0 } else { sequence }
    }

    /// What a batch has for one key head, if it adds anything.
    fn active_head(
        &self,
        heads: AttentionDims,
        batch: usize,
        kv_head: usize,
    ) -> Option<PromptHead<'a>> {
        let head = self.head(heads, batch, kv_head);
        (head.len > 0 && head.gate.iter().any(|gate| *gate != 0.0)).then_some(head)
    }

    /// What a batch has for one key head.
    fn head(&self, heads: AttentionDims, batch: usize, kv_head: usize) -> PromptHead<'a> {
        let AttentionDims { kv_heads, head_dim, .. } = heads;
        let len = self.lens.map_or(self.len, |lens| lens[batch]);
        let start = (batch * kv_heads + kv_head) * self.len * head_dim;
        PromptHead {
            key: &self.key[start..][..len * head_dim],
            value: &self.value[start..][..len * head_dim],
            gate: &self.gate[batch * heads.heads + kv_head * heads.group()..][..heads.group()],
            len,
        }
    }
}

impl<'a> AttentionInputs<'a> {
    /// Rows of `qkv`.
    fn rows(&self) -> usize {
        self.qkv.len() / self.heads.row()
    }

    /// A query head of one row.
    fn query(&self, row: usize, head: usize) -> &'a [f32] {
        let AttentionDims { head_dim, .. } = self.heads;
        &self.qkv[row * self.heads.row() + head * head_dim..][..head_dim]
    }

    /// Where a key head of one row starts.
    fn key_at(&self, row: usize, kv_head: usize) -> usize {
        row * self.heads.row() + (self.heads.heads + kv_head) * self.heads.head_dim
    }

    /// Where a value head of one row starts.
    fn value_at(&self, row: usize, kv_head: usize) -> usize {
        self.key_at(row, self.heads.kv_heads + kv_head)
    }

    /// A key head of one row.
    fn key(&self, row: usize, kv_head: usize) -> &'a [f32] {
        self.query(row, self.heads.heads + kv_head)
    }

    /// A value head of one row.
    fn value(&self, row: usize, kv_head: usize) -> &'a [f32] {
        self.query(row, self.heads.heads + self.heads.kv_heads + kv_head)
    }

    /// The angles of one row.
    fn turn(&self, row: usize) -> Option<(&'a [f32], &'a [f32])> {
        self.rotation.map(|rotation| rotation.at(row, self.heads.head_dim))
    }

    /// Whether some rows belong to no sequence.
    fn has_gaps(&self) -> bool {
        self.sequences.iter().map(|sequence| sequence.len).sum::<usize>() < self.rows()
    }
}
