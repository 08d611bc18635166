//! Row order of query and key projections.
//!
//! A rotary embedding rotates pairs of a head's rows. Meta, lit-llama and llama.cpp interleave the pairs (rows
//! 0 and 1, 2 and 3, ...); Hugging Face and this crate pair rows half a head apart. The permutation depends
//! on the layout of a model's weights, not on a file format, so it is here and not in `checkpoint`.

/// Reorders the rows of every head from interleaved pairs to halves: `0 2 4 ... 1 3 5 ...`.
///
/// `values` are rows of `row_len` values, also bytes. `None` if they are not a whole number of heads.
pub fn deinterleave_rotary<T: Copy>(
    values: &[T],
    row_len: usize,
    head_dim: usize,
) -> Option<Vec<T>> {
    reorder(values, row_len, head_dim, |source| source)
}

/// The inverse of [`deinterleave_rotary`].
pub fn interleave_rotary<T: Copy>(values: &[T], row_len: usize, head_dim: usize) -> Option<Vec<T>> {
    reorder(values, row_len, head_dim, |sources| {
        let mut inverse = vec![0; sources.len()];
        for (row, source) in sources.into_iter().enumerate() {
            inverse[source] = row;
        }
        inverse
    })
}

/// `order` turns the source rows of a deinterleaved head into those to copy.
fn reorder<T: Copy>(
    values: &[T],
    row_len: usize,
    head_dim: usize,
    order: impl FnOnce(Vec<usize>) -> Vec<usize>,
) -> Option<Vec<T>> {
    let head_len = head_dim.checked_mul(row_len).filter(|&len| len > 0)?;
    if values.is_empty() || !values.len().is_multiple_of(head_len) {
        return None;
    }
    let rows = order((0..head_dim).step_by(2).chain((1..head_dim).step_by(2)).collect());
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_len) {
        for row in &rows {
            out.extend_from_slice(&head[row * row_len..(row + 1) * row_len]);
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
        assert_eq!(deinterleave_rotary(&rows, 2, 4).unwrap(), expected);
        assert_eq!(deinterleave_rotary(&rows, 2, 6), None);
        assert_eq!(deinterleave_rotary(&rows, 0, 4), None);
    }

    #[test]
    fn the_order_of_rows_is_inverted() {
        let interleaved = (0..8).map(|x| x as f32).collect::<Vec<_>>();
        let halves = deinterleave_rotary(&interleaved, 1, 8).unwrap();
        assert_eq!(halves, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(interleave_rotary(&halves, 1, 8).unwrap(), interleaved);
        // Two heads of four rows of one value; one head of four rows of two.
        let heads = deinterleave_rotary(&interleaved, 1, 4).unwrap();
        assert_eq!(heads, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        let wide = deinterleave_rotary(&interleaved, 2, 4).unwrap();
        assert_eq!(wide, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
