//! Checks of shapes. A mismatch is a bug of the calling code.

use crate::sizes::BLOCK_TOKENS;

use super::inputs::{AttentionDims, AttentionInputs, KvCacheView, Rotation, Sequence};
use super::packed_prompts::PromptTable;
use super::prompts::{PromptView, Prompts};

impl AttentionInputs<'_> {
    /// # Panics
    /// If shapes do not match.
    pub fn check_shapes(&self) {
        let AttentionDims { heads, kv_heads, head_dim } = self.heads;
        assert!(
            heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} query heads are not a multiple of {kv_heads} KV heads",
        );
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(2),
            "the width of a head is {head_dim} instead of an even number",
        );
        let (len, width) = (self.qkv.len(), self.heads.qkv_width());
        assert!(len.is_multiple_of(width), "{len} elements are not rows of {width}");
        let rows = self.rows();
        if let Some(Rotation { cos, sin }) = self.rotation {
            expect_len("cosines", cos, rows * head_dim / 2);
            expect_len("sines", sin, rows * head_dim / 2);
        }
        assert!(self.window != Some(0), "a window of 0 masks every position");
        let mut end = 0;
        let mut in_order = true;
        for &Sequence { first_row, len, .. } in self.sequences {
            assert!(
                len <= rows && first_row <= rows - len,
                "rows {first_row} to {first_row} + {len} of {rows}",
            );
            in_order &= first_row >= end;
            end = first_row + len;
        }
        if !in_order {
            let mut spans: Vec<_> = self.sequences.iter().filter(|span| span.len > 0).collect();
            spans.sort_by_key(|span| span.first_row);
            for pair in spans.windows(2) {
                let (end, next) = (pair[0].first_row + pair[0].len, pair[1].first_row);
                assert!(next >= end, "two sequences have row {next}");
            }
        }
        match self.prompts {
            Prompts::None => {}
            Prompts::Stacked(prompt) => {
                let (batches, sequences) = (prompt.batches, self.sequences.len());
                assert!(
                    batches == 1 || batches == sequences,
                    "{batches} prompts for {sequences} sequences",
                );
                prompt.check_shapes(self.heads);
            }
            Prompts::Listed(table) => self.check_prompt_table(table),
        }
    }

    fn check_prompt_table(&self, table: &PromptTable) {
        let PromptTable { prompts, of_sequence } = table;
        let (found, sequences) = (of_sequence.len(), self.sequences.len());
        assert!(found == 0 || found == sequences, "prompts of {found} sequences, not {sequences}");
        let end = of_sequence.iter().map(|range| range.end).max().unwrap_or(0);
        assert!(end as usize <= prompts.len(), "prompt {end} of {}", prompts.len());
        let heads = self.heads;
        for prompt in prompts {
            let found = prompt.heads();
            assert!(found == heads, "a prompt was packed for {found:?} instead of {heads:?}");
        }
    }

    /// # Panics
    /// If a sequence exceeds its blocks, a block is not in the cache, or two sequences write to the
    /// same block.
    pub fn check_cache(&self, cache: &KvCacheView) {
        let AttentionDims { kv_heads, head_dim, .. } = self.heads;
        let KvCacheView { keys, values, tables } = cache;
        let block_len = kv_heads * BLOCK_TOKENS * head_dim;
        let blocks = keys.len() / block_len;
        expect_len("the cache's keys", keys, blocks * block_len);
        expect_len("the cache's values", values, blocks * block_len);
        let (found, sequences) = (tables.len(), self.sequences.len());
        assert!(found == sequences, "blocks of {found} sequences instead of {sequences}");
        let mut written = Vec::<u32>::new();
        for (index, &Sequence { past, len, .. }) in self.sequences.iter().enumerate() {
            let table = tables.of(index);
            let capacity = table.len() * BLOCK_TOKENS;
            assert!(
                past <= capacity && len <= capacity - past,
                "{past} + {len} tokens exceed the sequence's {} blocks of {BLOCK_TOKENS}",
                table.len(),
            );
            if let Some(block) = table.iter().find(|&&block| block as usize >= blocks) {
                panic!("block {block} of a cache of {blocks} blocks");
            }
            if len > 0 {
                written.extend(&table[past / BLOCK_TOKENS..(past + len).div_ceil(BLOCK_TOKENS)]);
            }
        }
        written.sort_unstable();
        for pair in written.windows(2) {
            assert!(pair[0] != pair[1], "two sequences write to block {}", pair[0]);
        }
    }
}

impl PromptView<'_> {
    /// # Panics
    /// If shapes do not match.
    pub fn check_shapes(&self, heads: AttentionDims) {
        let AttentionDims { heads, kv_heads, head_dim } = heads;
        let Self { key, value, gate, batches, len, lens } = *self;
        expect_len("the prompt's keys", key, batches * kv_heads * len * head_dim);
        expect_len("the prompt's values", value, batches * kv_heads * len * head_dim);
        expect_len("the prompt's gates", gate, batches * heads);
        if let Some(lens) = lens {
            let (found, longest) = (lens.len(), lens.iter().max().copied().unwrap_or(0));
            assert!(found == batches, "{found} prompt lengths for {batches} prompts");
            assert!(longest <= len, "a prompt of {longest} tokens exceeds {len}");
        }
    }
}

/// # Panics
/// If the slice has another length.
pub fn expect_len(what: &str, slice: &[f32], len: usize) {
    let found = slice.len();
    assert!(found == len, "{what}: {found} elements instead of {len}");
}
