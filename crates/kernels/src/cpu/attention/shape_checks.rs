//! Checks of shapes. A mismatch is a bug of the calling code.

use super::inputs::{AttentionDims, AttentionInputs, PromptView, Rotation, Sequence};

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
        if let Some(prompt) = self.prompt {
            let PromptView { batches, len, .. } = prompt;
            let sequences = self.sequences.len();
            assert!(
                batches == 1 || batches == sequences,
                "{batches} prompts for {sequences} sequences",
            );
            expect_len("the prompt's keys", prompt.key, batches * kv_heads * len * head_dim);
            expect_len("the prompt's values", prompt.value, batches * kv_heads * len * head_dim);
            expect_len("the prompt's gates", prompt.gate, batches * heads);
            if let Some(lens) = prompt.lens {
                let (found, longest) = (lens.len(), lens.iter().max().copied().unwrap_or(0));
                assert!(found == batches, "{found} prompt lengths for {batches} prompts");
                assert!(longest <= len, "a prompt of {longest} tokens exceeds {len}");
            }
        }
    }
}

/// # Panics
/// If the slice has another length.
pub fn expect_len(what: &str, slice: &[f32], len: usize) {
    let found = slice.len();
    assert!(found == len, "{what}: {found} elements instead of {len}");
}
