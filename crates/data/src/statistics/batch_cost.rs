//! What a batch costs: tokens, padding, shared prefixes.

use serde::Serialize;

/// Token slots of batches, in total.
///
/// A device without packed batches pads every row to the longest one of its batch. A device with packed
/// batches has no padding, and computes a prefix that rows of a batch share once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BatchCost {
    /// Number of batches.
    pub batches: usize,
    /// Tokens of all rows.
    pub tokens: usize,
    /// Slots that padding fills.
    pub padding: usize,
    /// Tokens that other rows of their batch share.
    pub shared: usize,
}

impl BatchCost {
    /// Adds a batch of rows.
    ///
    /// ```
    /// use data::statistics::BatchCost;
    ///
    /// let mut cost = BatchCost::default();
    /// cost.add(vec![&[1, 2, 3, 4][..], &[1, 2, 5]]);
    /// assert_eq!((cost.tokens, cost.padding, cost.shared), (7, 1, 2));
    /// assert_eq!(cost.padding_fraction(), 1.0 / 8.0);
    /// ```
    pub fn add(&mut self, mut rows: Vec<&[u32]>) {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let tokens = rows.iter().map(|row| row.len()).sum::<usize>();
        self.batches += 1;
        self.tokens += tokens;
        self.padding += longest * rows.len() - tokens;
        // Neighbors in sorted order share the most.
        rows.sort_unstable();
        self.shared += rows.windows(2).map(|pair| common_prefix(pair[0], pair[1])).sum::<usize>();
    }

    /// Fraction of the slots of padded batches that is padding, 0 to 1.
    pub fn padding_fraction(&self) -> f64 {
        self.padding as f64 / (self.tokens + self.padding).max(1) as f64
    }

    /// Fraction of the tokens that packed batches do not compute again, 0 to 1.
    pub fn shared_fraction(&self) -> f64 {
        self.shared as f64 / self.tokens.max(1) as f64
    }
}

fn common_prefix(first: &[u32], second: &[u32]) -> usize {
    first.iter().zip(second).take_while(|(first, second)| first == second).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_counts_once_per_further_row() {
        let mut cost = BatchCost::default();
        // As a tree: 7 8, below it 9 and 5 9; then 8 9 alone; the first row again.
        cost.add(vec![&[7, 8, 9][..], &[7, 8, 5, 9], &[8, 9], &[7, 8, 9]]);
        assert_eq!((cost.tokens, cost.tokens - cost.shared), (12, 7));
        assert_eq!(cost.padding, 4);
    }

    #[test]
    fn batches_do_not_share_with_each_other() {
        let mut cost = BatchCost::default();
        cost.add(vec![&[1, 2][..]]);
        cost.add(vec![&[1, 2][..]]);
        assert_eq!((cost.batches, cost.shared, cost.padding), (2, 0, 0));
    }

    #[test]
    fn no_rows_cost_nothing() {
        let mut cost = BatchCost::default();
        cost.add(Vec::new());
        assert_eq!((cost.padding_fraction(), cost.shared_fraction()), (0.0, 0.0));
    }
}
