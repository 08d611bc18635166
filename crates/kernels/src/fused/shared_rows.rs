//! Shared prefixes in attention: rows that several sequences share are expanded to one row per
//! token, and the outputs are reduced to rows again.
//!
//! ```text
//! rows of the pass      0 1 2 3 4       sequences  a b c  and  a b d e
//! row of every token    0 1 2 0 1 3 4
//! ```
//!
//! All other operations process each row once, for all sequences that share it. Attention, a small
//! part of a pass, processes a shared row once per sequence.

use std::ops::Range;

use crate::attention_params::AttentionParams;
use crate::cpu::attention::Rotation;
use crate::cpu::threads::{self, SharedSlice};
use crate::cpu::workspace;

/// Columns that one task copies.
const COLUMNS_PER_TASK: usize = 128;

/// Calls `work` with the queries, keys and values, and the rotary embedding, of every token.
///
/// # Shapes
/// - `qkv`: `[rows, (heads + 2 kv_heads) head_dim]`; `work` gets `[tokens, ...]`
pub(super) fn with_expanded_rows<R>(
    params: &AttentionParams,
    qkv: &[f32],
    work: impl FnOnce(&[f32], Option<Rotation>) -> R,
) -> R {
    let table = params.layout.rotary_table.as_ref();
    let Some(rows) = &params.layout.token_rows else {
        return work(qkv, table.map(|table| Rotation { cos: &table.cos, sin: &table.sin }));
    };
    let width = (params.heads.heads + 2 * params.heads.kv_heads) * params.heads.head_dim;
    let half = table.map_or(0, |_| params.heads.head_dim / 2);
    workspace::with_buffer(rows.len() * (width + 2 * half), |buffer| {
        let (token_qkv, rest) = buffer.split_at_mut(rows.len() * width);
        let (cos, sin) = rest.split_at_mut(rows.len() * half);
        gather_rows(rows, qkv, token_qkv);
        let rotation = table.map(|table| {
            gather_rows(rows, &table.cos, cos);
            gather_rows(rows, &table.sin, sin);
            Rotation { cos, sin }
        });
        work(token_qkv, rotation)
    })
}

/// Copies each row to all of its tokens.
pub(super) fn gather_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = to.len() / rows.len();
    let to = SharedSlice::new(to);
    for_each_token(rows, width, |TokenColumns { token, row, columns, .. }| {
        let from = &from[row * width..][..width][columns.clone()];
        // SAFETY: tokens do not overlap, and each task writes to columns that no other task has.
        unsafe { to.slice_mut(token * width + columns.start, from.len()) }.copy_from_slice(from);
    });
}

/// Copies each row to its first token and zeros its other tokens: the gradient of
/// [`scatter_first_rows`].
pub(super) fn gather_first_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = to.len() / rows.len();
    let to = SharedSlice::new(to);
    for_each_token(rows, width, |TokenColumns { token, row, first, columns }| {
        let from = &from[row * width..][..width][columns.clone()];
        // SAFETY: as in `gather_rows`.
        let to = unsafe { to.slice_mut(token * width + columns.start, from.len()) };
        if first {
            to.copy_from_slice(from);
        } else {
            to.fill(0.0);
        }
    });
}

/// Copies the first token of each row to the row. The other tokens of the row hold the same values.
pub(super) fn scatter_first_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = from.len() / rows.len();
    let to = SharedSlice::new(to);
    for_each_token(rows, width, |TokenColumns { token, row, first, columns }| {
        if first {
            let from = &from[token * width..][..width][columns.clone()];
            // SAFETY: each row has one first token, and each task writes to its own columns.
            unsafe { to.slice_mut(row * width + columns.start, from.len()) }.copy_from_slice(from);
        }
    });
}

/// Sums all tokens of each row: the gradient of [`gather_rows`].
pub(super) fn scatter_add_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = from.len() / rows.len();
    let to = SharedSlice::new(to);
    for_each_token(rows, width, |TokenColumns { token, row, first, columns }| {
        let from = &from[token * width..][..width][columns.clone()];
        // SAFETY: each task writes to its own columns, and processes the tokens one after another.
        let to = unsafe { to.slice_mut(row * width + columns.start, from.len()) };
        if first {
            to.copy_from_slice(from);
        } else {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    });
}

/// A range of columns of a token and of its row.
struct TokenColumns {
    token: usize,
    row: usize,
    /// Whether this is the first token of the row.
    first: bool,
    columns: Range<usize>,
}

/// Calls `work` for all tokens in order; each task has a range of columns.
fn for_each_token(rows: &[usize], width: usize, work: impl Fn(TokenColumns) + Sync) {
    threads::parallel_for(width.div_ceil(COLUMNS_PER_TASK), |task| {
        let columns = task * COLUMNS_PER_TASK..width.min((task + 1) * COLUMNS_PER_TASK);
        let mut next = 0;
        for (token, &row) in rows.iter().enumerate() {
            // Rows are numbered in the order of their first tokens.
            let first = row == next;
            next += usize::from(first);
            work(TokenColumns { token, row, first, columns: columns.clone() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six tokens in four rows.
    const ROWS: [usize; 6] = [0, 1, 2, 0, 1, 3];

    #[test]
    fn rows_are_gathered_to_tokens_and_scattered_back() {
        let width = COLUMNS_PER_TASK + 3;
        let numbered = |count: usize| (0..count * width).map(|i| i as f32).collect::<Vec<_>>();
        let at = |all: &[f32], row: usize| all[row * width..][..width].to_vec();
        let (by_row, by_token) = (numbered(4), numbered(6));

        let mut out = vec![f32::NAN; 6 * width];
        gather_rows(&ROWS, &by_row, &mut out);
        for (token, row) in ROWS.into_iter().enumerate() {
            assert_eq!(at(&out, token), at(&by_row, row));
        }
        gather_first_rows(&ROWS, &by_row, &mut out);
        for (token, row) in [(0, 0), (1, 1), (2, 2), (5, 3)] {
            assert_eq!(at(&out, token), at(&by_row, row));
        }
        assert_eq!([at(&out, 3), at(&out, 4)], [vec![0.0; width], vec![0.0; width]]);

        let mut out = vec![f32::NAN; 4 * width];
        scatter_first_rows(&ROWS, &by_token, &mut out);
        for (row, token) in [0, 1, 2, 5].into_iter().enumerate() {
            assert_eq!(at(&out, row), at(&by_token, token));
        }
        scatter_add_rows(&ROWS, &by_token, &mut out);
        let sum = |a, b| {
            at(&by_token, a).iter().zip(at(&by_token, b)).map(|(a, b)| a + b).collect::<Vec<_>>()
        };
        assert_eq!([at(&out, 0), at(&out, 1)], [sum(0, 3), sum(1, 4)]);
        assert_eq!([at(&out, 2), at(&out, 3)], [at(&by_token, 2), at(&by_token, 5)]);
    }
}
