//! The difference in accuracy of two models on the same rows, with a confidence interval.
//!
//! Rows about the same image are not independent: a difficult image costs a model all of them. They
//! form a cluster, so that a hundred questions about one image do not count like a hundred images.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::accuracy::Z95;

/// How much more accurate the second of two models is than the first, on the same rows.
///
/// ```
/// use eval::PairedDifference;
///
/// let first = [true, false, false, true];
/// let second = [true, true, false, true];
/// let difference = PairedDifference::new(&first, &second, &[0, 1, 2, 3]);
/// assert_eq!(difference.mean, 0.25);
/// assert!(!difference.is_significant()); // one row of four
/// let text = "+25.0 points, 95 % CI -24.0 to +74.0 (not significant)";
/// assert_eq!(difference.to_string(), text);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Accuracy of the second model minus accuracy of the first, -1 to 1.
    pub mean: f64,
    /// The 95 % confidence interval of the mean. -1 to 1 with fewer than two clusters. Its width is 0
    /// if every row has the same difference.
    pub interval: (f64, f64),
    /// Number of rows.
    pub rows: usize,
    /// Number of independent clusters of rows. The interval is reliable from a few dozen on.
    pub clusters: usize,
}

impl PairedDifference {
    /// Compares two models by which rows each has correct; rows with equal numbers in `clusters` form
    /// a cluster.
    ///
    /// # Panics
    /// If the slices differ in length.
    ///
    /// Source: the cluster-robust standard error of a mean, with its factor
    /// `clusters / (clusters - 1)`; K.-Y. Liang and S. L. Zeger, Longitudinal data analysis using
    /// generalized linear models, Biometrika 73 (1986). With one row per cluster it is the usual
    /// standard error of paired differences.
    pub fn new(first: &[bool], second: &[bool], clusters: &[usize]) -> Self {
        assert_eq!(first.len(), second.len(), "both models have the same rows");
        assert_eq!(first.len(), clusters.len(), "one cluster per row");
        let gain = |row: usize| f64::from(i8::from(second[row]) - i8::from(first[row]));
        let n_rows = first.len();
        let mean = (0..n_rows).map(gain).sum::<f64>() / n_rows.max(1) as f64;
        let mut sums: HashMap<usize, f64> = HashMap::new();
        for (row, &cluster) in clusters.iter().enumerate() {
            *sums.entry(cluster).or_default() += gain(row) - mean;
        }
        let n_clusters = sums.len();
        let interval = if n_clusters < 2 {
            (-1.0, 1.0)
        } else {
            // A fixed order makes the sum deterministic.
            let mut sums = sums.into_values().collect::<Vec<_>>();
            sums.sort_by(f64::total_cmp);
            let squares = sums.iter().map(|sum| sum * sum).sum::<f64>();
            let factor = n_clusters as f64 / (n_clusters - 1) as f64;
            let half_width = Z95 * (factor * squares).sqrt() / n_rows as f64;
            ((mean - half_width).max(-1.0), (mean + half_width).min(1.0))
        };
        Self { mean, interval, rows: n_rows, clusters: n_clusters }
    }

    /// Whether the interval excludes zero.
    pub fn is_significant(&self) -> bool {
        self.interval.0 > 0.0 || self.interval.1 < 0.0
    }
}

/// In percentage points.
impl fmt::Display for PairedDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [mean, low, high] = [self.mean, self.interval.0, self.interval.1].map(|x| x * 100.0);
        let significance = if self.is_significant() { "" } else { " (not significant)" };
        write!(f, "{mean:+.1} points, 95 % CI {low:+.1} to {high:+.1}{significance}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: (f64, f64), expected: (f64, f64)) {
        assert!((actual.0 - expected.0).abs() < 1e-6, "{actual:?}, expected {expected:?}");
        assert!((actual.1 - expected.1).abs() < 1e-6, "{actual:?}, expected {expected:?}");
    }

    /// Answers from their letters: `x` is correct.
    fn answers(text: &str) -> Vec<bool> {
        text.chars().map(|letter| letter == 'x').collect()
    }

    #[test]
    fn singleton_clusters_give_the_usual_standard_error() {
        // Gains 1 1 1 -1 0 0 0 0 0 0: mean 0.2, squares 4 - 10 * 0.04 = 3.6,
        // standard error sqrt(3.6 / 9 / 10) = 0.2, times 1.959964.
        let difference = PairedDifference::new(
            &answers("___x___xxx"),
            &answers("xxx____xxx"),
            &(0..10).collect::<Vec<_>>(),
        );
        assert!((difference.mean - 0.2).abs() < 1e-12);
        assert_close(difference.interval, (-0.191_993, 0.591_993));
        assert_eq!(
            (difference.rows, difference.clusters, difference.is_significant()),
            (10, 10, false)
        );
    }

    #[test]
    fn rows_of_one_image_form_a_cluster() {
        // Gains 1 1 | 1 | -1 0 | 0: mean 1/3. Sums less the mean: 4/3, 2/3, -5/3, -1/3;
        // squares (16 + 4 + 25 + 1) / 9 = 46/9; standard error sqrt(4/3 * 46/9) / 6 = 0.435087.
        let (first, second) = (answers("___x_x"), answers("xxx__x"));
        let difference = PairedDifference::new(&first, &second, &[7, 7, 2, 5, 5, 9]);
        assert!((difference.mean - 1.0 / 3.0).abs() < 1e-12);
        assert_close(difference.interval, (1.0 / 3.0 - 0.852_754, 1.0));
        assert_eq!(difference.clusters, 4);
    }

    #[test]
    fn duplicated_rows_do_not_narrow_the_interval() {
        let (first, second) = (answers("__x_xx__"), answers("xxxx_x__"));
        let once = PairedDifference::new(&first, &second, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let twice = PairedDifference::new(
            &[&first[..], &first].concat(),
            &[&second[..], &second].concat(),
            &[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7],
        );
        assert_close(twice.interval, once.interval);
        assert_eq!(twice.mean, once.mean);
    }

    #[test]
    fn fewer_than_two_clusters_give_the_widest_interval() {
        let none = PairedDifference::new(&[], &[], &[]);
        assert_eq!((none.mean, none.interval), (0.0, (-1.0, 1.0)));
        let one = PairedDifference::new(&answers("__"), &answers("xx"), &[3, 3]);
        assert_eq!((one.mean, one.interval), (1.0, (-1.0, 1.0)));
        assert!(!one.is_significant());
    }

    #[test]
    fn equal_models_do_not_differ() {
        let same = answers("x_xx");
        let difference = PairedDifference::new(&same, &same, &[0, 1, 2, 3]);
        assert_eq!(
            (difference.mean, difference.interval, difference.is_significant()),
            (0.0, (0.0, 0.0), false)
        );
    }
}
