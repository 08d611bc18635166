//! Rows of query and key projections: in Meta's order neighbours are rotated together, in Hugging
//! Face's the halves of a head.

/// Rows of `width` numbers each, from Meta's order into Hugging Face's, head by head.
pub(crate) fn deinterleave_rotary(rows: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    permute_head_rows(rows, head_dim, width, |half, row| (row % half) * 2 + row / half)
}

/// The other way round.
pub(crate) fn interleave_rotary(rows: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    permute_head_rows(rows, head_dim, width, |half, row| row / 2 + row % 2 * half)
}

/// Row `i` of each head comes from `from(half, i)`.
fn permute_head_rows(
    rows: &[f32],
    head_dim: usize,
    width: usize,
    from: impl Fn(usize, usize) -> usize,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * width) {
        for row in 0..head_dim {
            let first = from(head_dim / 2, row) * width;
            out.extend_from_slice(&head[first..first + width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metas_order_of_rows_goes_there_and_back() {
        let meta = (0..8).map(|x| x as f32).collect::<Vec<_>>();
        let ours = deinterleave_rotary(&meta, 8, 1);
        assert_eq!(ours, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(interleave_rotary(&ours, 8, 1), meta);
        // Two heads of four rows, of one number each; one head of four rows of two.
        assert_eq!(deinterleave_rotary(&meta, 4, 1), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(deinterleave_rotary(&meta, 4, 2), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
