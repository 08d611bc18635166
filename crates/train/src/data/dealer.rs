//! The rows of a step ─► those of each rank, so that all ranks compute for about the same time.

use std::cmp::Reverse;

/// Deals the rows of steps to the ranks of a training: a function of the step's rows and the number of
/// ranks, so that every rank knows without a message what it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dealer {
    /// This rank.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// Whether rows go to the rank that [owns](Self::owner) them where the balance allows it.
    pub prefers_owner: bool,
}

/// The rows of one rank in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hand {
    /// The rows of each batch, in the order of the batch; without batches of which the rank has none.
    pub batches: Vec<Vec<usize>>,
    /// Tokens of the rank that has most.
    pub most_tokens: usize,
    /// Tokens of all ranks.
    pub all_tokens: usize,
}

impl Dealer {
    /// The only rank: it gets all rows.
    #[cfg(test)]
    pub const ALONE: Self = Self { rank: 0, world: 1, prefers_owner: false };

    /// The rank whose frozen-prefix cache holds an example.
    pub fn owner(&self, example: usize) -> usize {
        example % self.world
    }

    /// The rows of this rank. `len` is the number of tokens of an example.
    ///
    /// The longest row goes first, each to the rank with the fewest tokens so far.
    pub fn deal(&self, step: Vec<Vec<usize>>, len: impl Fn(usize) -> usize) -> Hand {
        /// An owner may have this part more than its share.
        const SLACK: usize = 16;
        let all_tokens = step.iter().flatten().map(|&example| len(example)).sum::<usize>();
        if self.world == 1 {
            return Hand { batches: step, most_tokens: all_tokens, all_tokens };
        }
        let share = all_tokens.div_ceil(self.world);
        let limit = share + share / SLACK;
        let rows = step.iter().enumerate();
        let rows = rows.flat_map(|(batch, rows)| (0..rows.len()).map(move |row| (batch, row)));
        let mut longest_first = rows.collect::<Vec<_>>();
        longest_first.sort_by_key(|&(batch, row)| Reverse(len(step[batch][row])));
        let mut tokens = vec![0; self.world];
        let mut own = vec![Vec::new(); step.len()];
        for (batch, row) in longest_first {
            let example = step[batch][row];
            let (owner, len) = (self.owner(example), len(example));
            let rank = if self.prefers_owner && tokens[owner] + len <= limit {
                owner
            } else {
                (0..self.world).min_by_key(|&rank| tokens[rank]).unwrap_or(0)
            };
            tokens[rank] += len;
            if rank == self.rank {
                own[batch].push(row);
            }
        }
        let batches = own.into_iter().zip(&step).filter(|(rows, _)| !rows.is_empty());
        let batches = batches.map(|(mut rows, batch)| {
            rows.sort_unstable();
            rows.into_iter().map(|row| batch[row]).collect()
        });
        let most_tokens = tokens.iter().copied().max().unwrap_or(0);
        Hand { batches: batches.collect(), most_tokens, all_tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hands(
        world: usize,
        prefers_owner: bool,
        step: &[Vec<usize>],
        len: fn(usize) -> usize,
    ) -> Vec<Hand> {
        let dealer = |rank| Dealer { rank, world, prefers_owner };
        (0..world).map(|rank| dealer(rank).deal(step.to_vec(), len)).collect()
    }

    #[test]
    fn every_row_goes_to_one_rank_and_stays_in_its_batch_and_order() {
        let step = vec![vec![5, 0, 9, 3], vec![7, 8, 1]];
        for (world, prefers_owner) in [(1, false), (2, false), (3, true), (9, true)] {
            let hands = hands(world, prefers_owner, &step, |example| 3 + example * 7 % 11);
            let mut dealt = hands.iter().flat_map(|hand| hand.batches.concat()).collect::<Vec<_>>();
            dealt.sort_unstable();
            assert_eq!(dealt, [0, 1, 3, 5, 7, 8, 9]);
            for batch in hands.iter().flat_map(|hand| &hand.batches) {
                let of = step.iter().find(|of| of.contains(&batch[0])).unwrap();
                let places = batch.iter().map(|row| of.iter().position(|other| other == row));
                assert!(places.is_sorted_by(|a, b| a.is_some() && a < b), "{batch:?}");
            }
        }
    }

    #[test]
    fn ranks_get_about_the_same_tokens_of_rows_of_different_lengths() {
        let step = vec![(0..64).collect::<Vec<_>>()];
        for prefers_owner in [false, true] {
            let hands = hands(4, prefers_owner, &step, |example| 20 + example * 37 % 200);
            let Hand { most_tokens, all_tokens, .. } = hands[0];
            assert!(4 * most_tokens <= all_tokens * 110 / 100, "{most_tokens} of {all_tokens}");
        }
    }

    #[test]
    fn most_rows_go_to_their_owner() {
        let step = vec![(0..64).map(|row| row * 13 % 1009).collect::<Vec<_>>()];
        let owned = |prefers_owner| {
            let hands = hands(4, prefers_owner, &step, |example| 20 + example * 37 % 50);
            let owned = hands.iter().enumerate().map(|(rank, hand)| {
                hand.batches.concat().iter().filter(|&&row| row % 4 == rank).count()
            });
            owned.sum::<usize>()
        };
        assert!(owned(true) >= 40 && owned(false) < 30, "{} {}", owned(true), owned(false));
    }

    #[test]
    fn ranks_without_a_row_get_no_batch() {
        let hands = hands(3, false, &[vec![4, 2]], |_| 5);
        assert_eq!(hands[2].batches, Vec::<Vec<usize>>::new());
        assert_eq!((hands[2].most_tokens, hands[2].all_tokens), (5, 10));
    }
}
