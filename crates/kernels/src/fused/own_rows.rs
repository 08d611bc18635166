//! Texts that begin alike share rows; attention gives each of them rows of its own, and puts them
//! together again behind it.
//!
//! ```text
//! rows of the pass        0 1 2 3 4      a b c  and  a b d e
//! a row for every token   0 1 2 0 1 3 4
//! ```
//!
//! All else works on rows one by one, and has nothing to do twice. Attention is a small part of a
//! pass: it looks at shared rows once for every text.

use std::ops::Range;

use crate::call::AttentionParams;
use crate::cpu::attention::Rotation;
use crate::cpu::threads::{self, Shared};
use crate::cpu::workspace;

/// Numbers of a row that a task copies.
const COLUMNS: usize = 128;

/// Calls `work` with queries, keys, values and angles of every token, text behind text.
///
/// # Shapes
/// - `qkv`: `[rows, numbers of a row]`
pub(super) fn with<R>(
    call: &AttentionParams,
    qkv: &[f32],
    work: impl FnOnce(&[f32], Option<Rotation>) -> R,
) -> R {
    let turns = call.rotation.as_ref();
    let Some(rows) = &call.rows else {
        return work(qkv, turns.map(|turns| Rotation { cos: &turns.cos, sin: &turns.sin }));
    };
    let width = (call.heads.heads + 2 * call.heads.kv_heads) * call.heads.head_dim;
    let half = turns.map_or(0, |_| call.heads.head_dim / 2);
    workspace::with(rows.len() * (width + 2 * half), |buffer| {
        let (own, rest) = buffer.split_at_mut(rows.len() * width);
        let (cos, sin) = rest.split_at_mut(rows.len() * half);
        unfold(rows, qkv, own);
        let rotation = turns.map(|turns| {
            unfold(rows, &turns.cos, cos);
            unfold(rows, &turns.sin, sin);
            Rotation { cos, sin }
        });
        work(own, rotation)
    })
}

/// Copies each row to every token that has it.
pub(super) fn unfold(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = to.len() / rows.len();
    let to = Shared::new(to);
    walk(rows, width, |Step { token, row, columns, .. }| {
        let from = &from[row * width..][..width][columns.clone()];
        // SAFETY: each token has numbers of its own, and each task columns of its own.
        unsafe { to.part(token * width + columns.start, from.len()) }.copy_from_slice(from);
    });
}

/// Copies each row to the first token that has it; the others get zeros. The gradient of
/// [`scatter_first_rows`].
pub(super) fn gather_first_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = to.len() / rows.len();
    let to = Shared::new(to);
    walk(rows, width, |Step { token, row, first, columns }| {
        let from = &from[row * width..][..width][columns.clone()];
        // SAFETY: as above.
        let to = unsafe { to.part(token * width + columns.start, from.len()) };
        if first {
            to.copy_from_slice(from);
        } else {
            to.fill(0.0);
        }
    });
}

/// What the first token that has a row made of it: the others made the same.
pub(super) fn scatter_first_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = from.len() / rows.len();
    let to = Shared::new(to);
    walk(rows, width, |Step { token, row, first, columns }| {
        if first {
            let from = &from[token * width..][..width][columns.clone()];
            // SAFETY: each row has one first token, and each task columns of its own.
            unsafe { to.part(row * width + columns.start, from.len()) }.copy_from_slice(from);
        }
    });
}

/// The sum over all tokens that have a row: the gradient of [`unfold`].
pub(super) fn scatter_add_rows(rows: &[usize], from: &[f32], to: &mut [f32]) {
    let width = from.len() / rows.len();
    let to = Shared::new(to);
    walk(rows, width, |Step { token, row, first, columns }| {
        let from = &from[token * width..][..width][columns.clone()];
        // SAFETY: each task has columns of its own, and goes through the tokens one by one.
        let to = unsafe { to.part(row * width + columns.start, from.len()) };
        if first {
            to.copy_from_slice(from);
        } else {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    });
}

/// Some columns of a token and of its row.
struct Step {
    token: usize,
    row: usize,
    /// Whether no token before it has the row.
    first: bool,
    columns: Range<usize>,
}

/// Goes through all tokens in their order, for some columns a task.
fn walk(rows: &[usize], width: usize, work: impl Fn(Step) + Sync) {
    threads::for_each(width.div_ceil(COLUMNS), |part| {
        let columns = part * COLUMNS..width.min((part + 1) * COLUMNS);
        let mut next = 0;
        for (token, &row) in rows.iter().enumerate() {
            // Rows are numbered in the order of their first tokens.
            let first = row == next;
            next += usize::from(first);
            work(Step { token, row, first, columns: columns.clone() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six tokens in four rows.
    const ROWS: [usize; 6] = [0, 1, 2, 0, 1, 3];

    #[test]
    fn rows_are_copied_to_their_tokens_and_added_up_again() {
        let width = COLUMNS + 3;
        let numbered = |count: usize| (0..count * width).map(|i| i as f32).collect::<Vec<_>>();
        let at = |all: &[f32], row: usize| all[row * width..][..width].to_vec();
        let (by_row, by_token) = (numbered(4), numbered(6));

        let mut out = vec![f32::NAN; 6 * width];
        unfold(&ROWS, &by_row, &mut out);
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
