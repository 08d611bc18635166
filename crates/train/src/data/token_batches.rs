//! Batches of examples of similar length, within a budget of tokens.

use std::cmp::Reverse;
use std::sync::Arc;

/// How examples are divided into batches of similar length.
///
/// ```text
/// shuffled examples ─► by length class, longest first ─► cut into batches
/// ```
///
/// A batch has as many examples as the budget holds if each takes the length class of the longest.
/// Examples of one class are interchangeable: every epoch forms other batches of them, and the
/// number of batches depends on the lengths alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatches {
    /// Length class of each example.
    classes: Arc<[usize]>,
    /// Number of examples of each batch, beginning with the longest ones.
    sizes: Arc<[usize]>,
}

impl TokenBatches {
    /// Plans the batches of examples of these lengths, in tokens. Batches have at most `budget` tokens,
    /// padding included; an example that is longer is a batch of its own.
    pub fn new(lengths: impl IntoIterator<Item = usize>, budget: usize) -> Self {
        let classes = lengths.into_iter().map(length_class).collect::<Vec<_>>();
        let mut longest_first = classes.clone();
        longest_first.sort_unstable_by_key(|&class| Reverse(class));
        let (mut sizes, mut start) = (Vec::new(), 0);
        while let Some(&class) = longest_first.get(start) {
            let size = (budget / class).clamp(1, longest_first.len() - start);
            sizes.push(size);
            start += size;
        }
        Self { classes: classes.into(), sizes: sizes.into() }
    }

    /// Number of examples.
    pub fn n_examples(&self) -> usize {
        self.classes.len()
    }

    /// Number of batches of every epoch.
    pub fn n_batches(&self) -> usize {
        self.sizes.len()
    }

    /// The batches of all examples, beginning with the longest ones. Examples of one length class are
    /// in the order in which they are given.
    pub(super) fn divide(&self, mut order: Vec<usize>) -> Vec<Vec<usize>> {
        order.sort_by_key(|&example| Reverse(self.classes[example]));
        let mut rest = order.into_iter();
        self.sizes.iter().map(|&size| rest.by_ref().take(size).collect()).collect()
    }
}

/// The smallest length of a class that holds `length` tokens. A class is at most 1/32 of a length wide:
/// 1 token up to 64, then 2 up to 128, 4 up to 256, and so on.
fn length_class(length: usize) -> usize {
    let length = length.max(1);
    let width = (length.checked_next_power_of_two().unwrap_or(length) / 64).max(1);
    length.div_ceil(width).saturating_mul(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_class_is_at_most_a_thirtysecond_of_a_length_wide() {
        assert_eq!(
            [1, 64, 65, 66, 127, 129, 250].map(length_class),
            [1, 64, 66, 66, 128, 132, 252]
        );
        for length in 1..5_000 {
            let class = length_class(length);
            assert!(class >= length && (class - length) * 32 < length.max(32), "{length}: {class}");
        }
    }

    #[test]
    fn a_batch_stays_within_the_budget_and_has_similar_lengths() {
        let lengths = [10, 40, 20, 41, 9, 200, 21, 8];
        let batches = TokenBatches::new(lengths, 90);
        let divided = batches.divide((0..8).collect());
        // The row of 200 tokens exceeds the budget.
        assert_eq!(divided, [vec![5], vec![3, 1], vec![6, 2, 0, 4], vec![7]]);
        assert_eq!(batches.n_batches(), 4);
    }

    #[test]
    fn the_order_decides_among_equal_lengths_only() {
        let batches = TokenBatches::new([7, 30, 7, 30, 7], 21);
        assert_eq!(batches.divide(vec![0, 1, 2, 3, 4]), [vec![1], vec![3], vec![0, 2, 4]]);
        assert_eq!(batches.divide(vec![4, 3, 2, 1, 0]), [vec![3], vec![1], vec![4, 2, 0]]);
    }

    #[test]
    fn extreme_lengths_do_not_overflow() {
        let batches = TokenBatches::new([usize::MAX, 0, 1], usize::MAX);
        assert_eq!(batches.divide(vec![0, 1, 2]).concat().len(), 3);
    }
}
