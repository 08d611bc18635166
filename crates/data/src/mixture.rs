//! Weighted mixtures: which rows of several sources an epoch takes.
//!
//! ```text
//! weights 0.7 and 0.3, 100 and 900 rows: an epoch has 1000 rows
//!   source 0   0 1 2 ... 99 | 0 1 ...     700 rows: every row 7 times
//!   source 1   0 1 ... 299                300 rows; the next epoch goes on with row 300
//! ```
//!
//! Each source is an endless sequence of shuffled passes over its rows, and each epoch takes the next part of
//! it. So every row of a source is seen equally often, and the order is a function of the seed and the epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::source::WeightedSource;

/// The shares of several sources in each epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// The rows of the source.
    rows: Vec<u32>,
    /// How many of them each epoch takes.
    rows_per_epoch: usize,
}

/// The weights of some sources, if they have weights.
///
/// # Errors
/// [`Error::Setting`] if only some have one.
pub fn weights(sources: &[WeightedSource]) -> Result<Option<Vec<f64>>> {
    let weights = sources.iter().filter_map(|source| source.weight).collect::<Vec<_>>();
    if weights.is_empty() {
        return Ok(None);
    }
    match sources.iter().find(|source| source.weight.is_none()) {
        None => Ok(Some(weights)),
        Some(source) => Err(Error::Setting {
            what: "the source",
            found: source.text.to_string_lossy().into_owned(),
            expected: "expected a weight for every source, or for none".into(),
        }),
    }
}

impl Mixture {
    /// A mixture of rows: `sources` has the source of each row, `weights` the weight of each source.
    ///
    /// An epoch has as many rows as there are, and from each source a share that is proportional to its
    /// weight. Sources without rows are left out.
    ///
    /// # Panics
    /// If a row has a source without a weight.
    pub fn new(sources: &[u16], weights: &[f64]) -> Self {
        let mut parts = vec![Vec::new(); weights.len()];
        for (row, &source) in sources.iter().enumerate() {
            parts[usize::from(source)].push(row as u32);
        }
        let parts = parts.into_iter().zip(weights).filter(|(rows, _)| !rows.is_empty());
        let parts = parts.collect::<Vec<_>>();
        let total: f64 = parts.iter().map(|(_, weight)| **weight).sum();
        let mut sum = 0.0;
        let mut taken = 0;
        let parts = parts.into_iter().map(|(rows, weight)| {
            // Rounded sums add up to all rows.
            sum += weight;
            let end = (sum / total * sources.len() as f64).round() as usize;
            let rows_per_epoch = end - taken;
            taken = end;
            Part { rows, rows_per_epoch }
        });
        Self { parts: parts.collect() }
    }

    /// The rows of an epoch in order. Without `shuffle` the sources follow one another, each in its own order.
    pub fn epoch_order(&self, seed: u64, epoch: usize, shuffle: bool) -> Vec<usize> {
        let mut order = Vec::new();
        for (source, part) in self.parts.iter().enumerate() {
            part.take(seed, source, epoch, shuffle, &mut order);
        }
        if shuffle {
            order.shuffle(&mut generator(seed, 0, epoch));
        }
        order
    }
}

impl Part {
    /// Adds the rows of an epoch.
    fn take(&self, seed: u64, source: usize, epoch: usize, shuffle: bool, order: &mut Vec<usize>) {
        let n_rows = self.rows.len();
        let mut position = epoch.saturating_mul(self.rows_per_epoch);
        let mut left = self.rows_per_epoch;
        while left > 0 {
            let (pass, start) = (position / n_rows, position % n_rows);
            let mut rows = self.rows.clone();
            if shuffle {
                rows.shuffle(&mut generator(seed, source + 1, pass));
            }
            let count = left.min(n_rows - start);
            order.extend(rows[start..start + count].iter().map(|&row| row as usize));
            position += count;
            left -= count;
        }
    }
}

/// Random numbers of the `index`-th shuffle of a source, or with 0 of whole epochs.
fn generator(seed: u64, source: usize, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((source as u64) << 48) + index as u64 + 1);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 rows of source 0 and 900 rows of source 1.
    fn mixture(weights: &[f64]) -> Mixture {
        let sources = (0..1000).map(|row| u16::from(row >= 100)).collect::<Vec<_>>();
        Mixture::new(&sources, weights)
    }

    #[test]
    fn a_weight_is_the_share_of_the_rows_of_an_epoch() {
        let mixture = mixture(&[0.7, 0.3]);
        for epoch in 0..3 {
            let order = mixture.epoch_order(1, epoch, true);
            let first = order.iter().filter(|&&row| row < 100).count();
            assert_eq!((first, order.len()), (700, 1000));
        }
    }

    #[test]
    fn weights_need_not_sum_to_one() {
        assert_eq!(mixture(&[7.0, 3.0]), mixture(&[0.7, 0.3]));
    }

    #[test]
    fn the_rows_of_a_source_are_seen_equally_often() {
        let mixture = mixture(&[0.7, 0.3]);
        let mut counts = vec![0; 1000];
        for epoch in 0..3 {
            for row in mixture.epoch_order(1, epoch, true) {
                counts[row] += 1;
            }
        }
        assert!(counts[..100].iter().all(|&count| count == 21));
        // Three epochs take 900 rows: each of them once.
        assert!(counts[100..].iter().all(|&count| count == 1));
    }

    #[test]
    fn the_order_is_a_function_of_seed_and_epoch() {
        let mixture = mixture(&[0.7, 0.3]);
        assert_eq!(mixture.epoch_order(1, 2, true), mixture.epoch_order(1, 2, true));
        assert_ne!(mixture.epoch_order(1, 2, true), mixture.epoch_order(2, 2, true));
        assert_ne!(mixture.epoch_order(1, 2, true), mixture.epoch_order(1, 3, true));
    }

    #[test]
    fn without_shuffling_the_sources_follow_one_another() {
        let mixture = Mixture::new(&[0, 1, 0, 1], &[3.0, 1.0]);
        assert_eq!(mixture.epoch_order(1, 0, false), [0, 2, 0, 1]);
        assert_eq!(mixture.epoch_order(1, 1, false), [2, 0, 2, 3]);
    }

    #[test]
    fn a_source_without_rows_is_left_out() {
        let mixture = Mixture::new(&[2, 2, 0], &[1.0, 5.0, 2.0]);
        assert_eq!(mixture.epoch_order(1, 0, false), [2, 0, 1]);
    }

    #[test]
    fn a_weight_for_some_sources_only_is_an_error() {
        let parse = |text: &str| WeightedSource::parse(text.as_ref()).unwrap();
        assert_eq!(weights(&[parse("a"), parse("b")]).unwrap(), None);
        assert_eq!(weights(&[parse("a=2"), parse("b=1")]).unwrap(), Some(vec![2.0, 1.0]));
        let error = weights(&[parse("a=2"), parse("b")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the source \"b\" is not valid: expected a weight for every source, or for none"
        );
    }
}
