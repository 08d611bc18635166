//! Intervals by resampling: how much a score would vary with other rows of the same kind.
//!
//! ```text
//! clusters of rows ─► draw as many, with replacement ─► the score of the draw     (a thousand times)
//! the scores in order ─► the 2.5 % and the 97.5 % quantile
//! ```
//!
//! It assumes nothing about the distribution, so that it serves scores that are neither fractions nor
//! normal, such as a loss per label or an F1 between 0 and 1.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A mean with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean over all rows.
    pub mean: f64,
    /// Lower and upper limit.
    pub interval: (f64, f64),
}

impl Estimate {
    /// Whether the interval excludes zero, so that a difference is significant.
    pub fn excludes_zero(&self) -> bool {
        self.interval.0 > 0.0 || self.interval.1 < 0.0
    }
}

/// Draws of clusters of rows. Equal settings give equal draws, so two scores of the same rows are
/// compared on the same draws.
///
/// ```
/// use eval::Bootstrap;
///
/// let bootstrap = Bootstrap::new(1000, 0);
/// let f1 = [0.2, 0.9, 0.5, 1.0, 0.7, 0.4];
/// let score = bootstrap.mean(&f1, &[0, 1, 2, 3, 4, 5]);
/// let (low, high) = score.interval;
/// assert!(0.2 < low && low < score.mean && score.mean < high && high < 1.0);
/// ```
///
/// Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, the
/// percentile interval; rows of a cluster are drawn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    resamples: u32,
    seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self::new(1000, 0)
    }
}

impl Bootstrap {
    /// `resamples` draws, the random ones of `seed`; at least one.
    pub fn new(resamples: u32, seed: u64) -> Self {
        Self { resamples: resamples.max(1), seed }
    }

    /// The mean of one value per row. Rows with equal numbers in `clusters` are drawn together.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn mean(&self, values: &[f64], clusters: &[usize]) -> Estimate {
        self.ratio(values, &vec![1.0; values.len()], clusters)
    }

    /// The sum of `values` by the sum of `weights`, such as the loss per label from the losses and the
    /// numbers of labels of rows. The difference of two models is the ratio of the differences of their
    /// values.
    ///
    /// With fewer than two clusters nothing is known about other rows: the interval is infinite. Draws
    /// whose weights are all zero do not count.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn ratio(&self, values: &[f64], weights: &[f64], clusters: &[usize]) -> Estimate {
        assert_eq!(values.len(), weights.len(), "one weight per row");
        assert_eq!(values.len(), clusters.len(), "one cluster per row");
        let sums = cluster_sums(values, weights, clusters);
        let ratio = |value: f64, weight: f64| if weight == 0.0 { 0.0 } else { value / weight };
        let mean = ratio(values.iter().sum(), weights.iter().sum());
        if sums.len() < 2 {
            return Estimate { mean, interval: (f64::NEG_INFINITY, f64::INFINITY) };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut means = Vec::with_capacity(self.resamples as usize);
        for _ in 0..self.resamples {
            let (mut value, mut weight) = (0.0, 0.0);
            for _ in 0..sums.len() {
                // 32 bits: the same draw on every machine.
                let (more, with) = sums[rng.random_range(0..sums.len() as u32) as usize];
                value += more;
                weight += with;
            }
            if weight != 0.0 {
                means.push(value / weight);
            }
        }
        means.sort_by(f64::total_cmp);
        Estimate { mean, interval: (quantile(&means, 0.025), quantile(&means, 0.975)) }
    }
}

/// The sums of values and of weights of each cluster, in the order of its first row.
fn cluster_sums(values: &[f64], weights: &[f64], clusters: &[usize]) -> Vec<(f64, f64)> {
    let mut index_of = HashMap::new();
    let mut sums = Vec::new();
    for ((value, weight), cluster) in values.iter().zip(weights).zip(clusters) {
        let index = *index_of.entry(cluster).or_insert_with(|| {
            sums.push((0.0, 0.0));
            sums.len() - 1
        });
        sums[index].0 += value;
        sums[index].1 += weight;
    }
    sums
}

/// A quantile of sorted values, interpolated between neighbors as numpy does; NaN without values.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = fraction * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One cluster per row.
    fn singletons(count: usize) -> Vec<usize> {
        (0..count).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_the_normal_one_for_many_rows() {
        // 400 values 0, 1, ..., 19, twenty times each: mean 9.5, standard error sqrt(33.25 / 400).
        let values = (0..400).map(|row| f64::from(row % 20)).collect::<Vec<_>>();
        let Estimate { mean, interval } =
            Bootstrap::new(4000, 7).mean(&values, &singletons(values.len()));
        let half_width = 1.96 * (33.25_f64 / 400.0).sqrt();
        assert_eq!(mean, 9.5);
        assert!((interval.0 - (9.5 - half_width)).abs() < 0.05, "{interval:?}");
        assert!((interval.1 - (9.5 + half_width)).abs() < 0.05, "{interval:?}");
    }

    #[test]
    fn equal_seeds_give_equal_draws() {
        let values = [0.1, 0.7, 0.4, 0.9, 0.3];
        let interval =
            |seed| Bootstrap::new(200, seed).mean(&values, &singletons(values.len())).interval;
        assert_eq!(interval(3), interval(3));
        assert_ne!(interval(3), interval(4));
    }

    #[test]
    fn the_draws_are_those_of_earlier_versions() {
        // A changed generator would change every published interval.
        let values = [1.0, 2.0, 3.0, 5.0, 8.0];
        let estimate = Bootstrap::new(7, 0).mean(&values, &singletons(values.len()));
        // Between the two smallest and the two largest of seven means: 3.2 and 3.6, 5.4 and 5.6.
        let (low, high) = estimate.interval;
        assert!((low - 3.26).abs() < 1e-9 && (high - 5.57).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn a_ratio_weights_rows_by_their_labels() {
        let estimate = Bootstrap::default().ratio(&[10.0, 1.0], &[10.0, 2.0], &[0, 1]);
        assert_eq!(estimate.mean, 11.0 / 12.0);
        assert_eq!(estimate.interval, (0.5, 1.0));
    }

    #[test]
    fn duplicated_rows_in_a_cluster_do_not_narrow_the_interval() {
        let values = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
        let twice = [&values[..], &values].concat();
        let clusters = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5];
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.mean(&twice, &clusters), bootstrap.mean(&values, &clusters[..6]));
    }

    #[test]
    fn a_single_cluster_says_nothing_about_other_rows() {
        let estimate = Bootstrap::default().mean(&[0.5, 0.7], &[3, 3]);
        assert_eq!(estimate.interval, (f64::NEG_INFINITY, f64::INFINITY));
        assert!(!estimate.excludes_zero());
        assert_eq!(Bootstrap::default().mean(&[], &[]).mean, 0.0);
    }

    #[test]
    fn equal_values_have_an_interval_without_width() {
        let estimate = Bootstrap::default().mean(&[-0.5; 4], &singletons(4));
        assert_eq!(estimate, Estimate { mean: -0.5, interval: (-0.5, -0.5) });
        assert!(estimate.excludes_zero());
    }

    #[test]
    fn quantiles_are_interpolated() {
        // numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        let quantiles = [0.025, 0.5, 0.975].map(|at| quantile(&[1.0, 2.0, 4.0, 8.0], at));
        for (found, expected) in quantiles.into_iter().zip([1.075, 3.0, 7.7]) {
            assert!((found - expected).abs() < 1e-12, "{quantiles:?}");
        }
    }
}
