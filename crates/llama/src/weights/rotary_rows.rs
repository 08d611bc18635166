//! Rows of Wq and Wk in the order that pairs neighbours ─► the order that pairs halves.
//!
//! Both rotate pairs of a head's rows. Meta and llama.cpp pair neighbours, Hugging Face and this
//! crate rows half a head apart.

/// Puts the rows of every head in the order `0 2 4 ... 1 3 5 ...`.
///
/// `bytes` are `rows` rows of equal length. `None` if the rows are no whole number of heads.
pub(crate) fn deinterleave_rotary(bytes: &[u8], rows: usize, head_dim: usize) -> Option<Vec<u8>> {
    if rows == 0 || !rows.is_multiple_of(head_dim) || !bytes.len().is_multiple_of(rows) {
        return None;
    }
    let row_bytes = bytes.len() / rows;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(head_dim * row_bytes) {
        for part in 0..2 {
            for pair in 0..head_dim / 2 {
                let row = 2 * pair + part;
                out.extend_from_slice(&head[row * row_bytes..(row + 1) * row_bytes]);
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_rows_of_each_head_come_first() {
        let rows = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7];
        let expected = [0, 0, 2, 2, 1, 1, 3, 3, 4, 4, 6, 6, 5, 5, 7, 7];
        assert_eq!(deinterleave_rotary(&rows, 8, 4).unwrap(), expected);
        assert_eq!(deinterleave_rotary(&rows, 8, 6), None);
        assert_eq!(deinterleave_rotary(&rows, 0, 4), None);
    }
}
