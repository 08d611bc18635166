//! Where the keys and values of each sequence are stored.

/// The keys and values of one sequence in the buffers of all sequences.
#[derive(Debug, Clone, Copy)]
pub struct KvSpan {
    /// Start of the first KV head's.
    pub start: usize,
    /// Positions of each KV head.
    pub positions: usize,
}

impl KvSpan {
    /// Start and length of one KV head's.
    pub fn of_head(self, kv_head: usize, head_dim: usize) -> (usize, usize) {
        (self.start + kv_head * self.positions * head_dim, self.positions * head_dim)
    }

    /// Keys and values of one KV head.
    pub fn key_values(
        self,
        [keys, values]: [&[f32]; 2],
        kv_head: usize,
        head_dim: usize,
    ) -> KeyValueView<'_> {
        let (start, len) = self.of_head(kv_head, head_dim);
        KeyValueView { keys: &keys[start..][..len], values: &values[start..][..len] }
    }
}

/// Keys and values of one KV head.
#[derive(Debug, Clone, Copy)]
pub struct KeyValueView<'a> {
    /// Panels of 16 positions, `[positions / 16, head_dim, 16]`.
    pub keys: &'a [f32],
    /// `[positions, head_dim]`
    pub values: &'a [f32],
}
