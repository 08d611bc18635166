//! Row orders of query and key projections: Meta rotates neighboring rows of a head together, Hugging
//! Face the rows of its two halves.

/// Rows of `width` values each, from Meta's order to Hugging Face's, head by head.
pub(crate) fn deinterleave_rotary(rows: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    permute_head_rows(rows, head_dim, width, |half, row| (row % half) * 2 + row / half)
}

/// Rows of `width` values each, from Hugging Face's order to Meta's, head by head.
pub(crate) fn interleave_rotary(rows: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    permute_head_rows(rows, head_dim, width, |half, row| row / 2 + row % 2 * half)
}

/// Row `i` of each head is row `source(head_dim / 2, i)` of the input.
fn permute_head_rows(
    rows: &[f32],
    head_dim: usize,
    width: usize,
    source: impl Fn(usize, usize) -> usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * width) {
        for row in 0..head_dim {
            let first = source(head_dim / 2, row) * width;
            out.extend_from_slice(&head[first..first + width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_row_permutation_round_trips() {
        let meta = (0..8).map(|x| x as f32).collect::<Vec<_>>();
        let hugging_face = deinterleave_rotary(&meta, 8, 1);
        assert_eq!(hugging_face, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(interleave_rotary(&hugging_face, 8, 1), meta);
        // Two heads of four rows of one value; one head of four rows of two.
        assert_eq!(deinterleave_rotary(&meta, 4, 1), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(deinterleave_rotary(&meta, 4, 2), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
