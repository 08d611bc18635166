//! Layouts of keys and values: panels of 16 keys, `[head_dim][16]` each, and rows padded to whole
//! vectors.

use crate::cpu::simd::Simd;
use crate::sizes::{BLOCK_TOKENS, PANEL};

use super::inputs::{AttentionInputs, Sequence};
use super::rotary::rotate;

/// Packs rows of `head_dim` elements, which are `row_stride` apart, into panels from position
/// `first` on. `panels` starts with the panel of that position.
pub fn pack_key_panels<S: Simd>(
    simd: S,
    rows: &[f32],
    row_stride: usize,
    head_dim: usize,
    first: usize,
    panels: &mut [f32],
) {
    let count = if rows.len() < head_dim { 0 } else { (rows.len() - head_dim) / row_stride + 1 };
    let mut lane = first % PANEL;
    let mut done = 0;
    for panel in panels.chunks_exact_mut(PANEL * head_dim) {
        let lanes = (PANEL - lane).min(count - done);
        let rows = &rows[(done * row_stride).min(rows.len())..];
        simd.vectorize(
            #[inline(always)]
            || {
                if lanes == PANEL {
                    let rows: [&[f32]; PANEL] =
                        std::array::from_fn(|i| &rows[i * row_stride..][..head_dim]);
                    for (d, to) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                        *to = std::array::from_fn(|i| rows[i][d]);
                    }
                } else {
                    for i in 0..lanes {
                        let from = &rows[i * row_stride..][..head_dim];
                        for (to, from) in panel.chunks_exact_mut(PANEL).zip(from) {
                            to[lane + i] = *from;
                        }
                    }
                }
            },
        );
        done += lanes;
        lane = 0;
        if done == count {
            return;
        }
    }
    assert!(done == count, "{count} rows do not fit into the panels");
}

/// Appends the rotated keys and the values of a sequence's new tokens. `block` returns the keys and
/// values of one KV head in a block of the sequence; `buffer` has room for 16 keys.
pub fn append_kv<'b, S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    sequence: &Sequence,
    kv_head: usize,
    buffer: &mut [f32],
    block: impl Fn(usize) -> [&'b mut [f32]; 2],
) {
    let head_dim = inputs.heads.head_dim;
    let Sequence { first_row, len, past, .. } = *sequence;
    let mut done = 0;
    while done < len {
        let position = past + done;
        let count = (PANEL - position % PANEL).min(len - done);
        let rows = &mut buffer[..count * head_dim];
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in rows.chunks_exact_mut(head_dim).enumerate() {
                    let row = first_row + done + i;
                    rotate(simd, inputs.key(row, kv_head), inputs.cos_sin(row), 1.0, to);
                }
            },
        );
        let [keys, values] = block(position / BLOCK_TOKENS);
        let in_block = position % BLOCK_TOKENS;
        let panel = &mut keys[in_block / PANEL * PANEL * head_dim..][..PANEL * head_dim];
        pack_key_panels(simd, rows, head_dim, head_dim, position, panel);
        let values = values[in_block * head_dim..].chunks_exact_mut(head_dim);
        for (i, to) in values.take(count).enumerate() {
            to.copy_from_slice(inputs.value(first_row + done + i, kv_head));
        }
        done += count;
    }
}

/// Copies rows of `head_dim` elements into rows of `width`, padded with zeros.
pub fn pad_rows(rows: &[f32], head_dim: usize, width: usize, to: &mut [f32]) {
    for (from, to) in rows.chunks_exact(head_dim).zip(to.chunks_exact_mut(width)) {
        to[..head_dim].copy_from_slice(from);
        to[head_dim..].fill(0.0);
    }
}
