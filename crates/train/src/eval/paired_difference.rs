//! Two models, the same rows ─► by how much one is better, and how sure that is.
//!
//! Rows about one picture are not independent: a picture that is hard to see costs a model all of
//! them. They are taken together, so that a hundred questions about one picture do not pass for a
//! hundred pictures.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::accuracy::Z95;
use crate::data::Instruction;

/// By how much the second of two models is better than the first, on the same rows.
///
/// ```
/// use train::PairedDifference;
///
/// let first = [true, false, false, true];
/// let second = [true, true, false, true];
/// let found = PairedDifference::new(&first, &second, &[0, 1, 2, 3]);
/// assert_eq!(found.mean, 0.25);
/// assert!(!found.is_significant()); // one row of four
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Share of right answers of the second, less that of the first: -1 to 1.
    pub mean: f64,
    /// Where the mean over a great many such pictures lies, with 95 % confidence. -1 to 1 with
    /// fewer than two clusters: nothing is known then. Of no width where each row has the same
    /// difference.
    pub interval: (f64, f64),
    /// Rows asked.
    pub rows: usize,
    /// Groups of rows that count as independent. The interval is to be trusted from some dozens on.
    pub clusters: usize,
}

impl PairedDifference {
    /// Compares two models by which rows each has right; rows of an equal number in `clusters`
    /// belong together.
    ///
    /// # Panics
    /// If the three are not of one length.
    ///
    /// Source: the standard error of a mean that is robust to clusters, with its factor
    /// `clusters / (clusters - 1)`; K.-Y. Liang and S. L. Zeger, Longitudinal data analysis using
    /// generalized linear models, Biometrika 73 (1986). For each row its own cluster it is the
    /// common standard error of paired differences.
    pub fn new(first: &[bool], second: &[bool], clusters: &[usize]) -> Self {
        assert_eq!(first.len(), second.len(), "both models answer the same rows");
        assert_eq!(first.len(), clusters.len(), "one cluster a row");
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
            // In a fixed order, so that the last digits are the same each time.
            let mut sums = sums.into_values().collect::<Vec<_>>();
            sums.sort_by(f64::total_cmp);
            let squares = sums.iter().map(|sum| sum * sum).sum::<f64>();
            let factor = n_clusters as f64 / (n_clusters - 1) as f64;
            let half = Z95 * (factor * squares).sqrt() / n_rows as f64;
            ((mean - half).max(-1.0), (mean + half).min(1.0))
        };
        Self { mean, interval, rows: n_rows, clusters: n_clusters }
    }

    /// Whether the interval leaves out zero.
    pub fn is_significant(&self) -> bool {
        self.interval.0 > 0.0 || self.interval.1 < 0.0
    }
}

/// Numbers rows by their picture, for [`PairedDifference::new`]; a row without one is alone.
pub fn clusters_by_image(rows: &[Instruction]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let numbered = rows.iter().enumerate().map(|(index, row)| match &row.image {
        Some(image) => *seen.entry(image).or_insert(index),
        None => index,
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: (f64, f64), wanted: (f64, f64)) {
        assert!((found.0 - wanted.0).abs() < 1e-6, "{found:?}, wanted {wanted:?}");
        assert!((found.1 - wanted.1).abs() < 1e-6, "{found:?}, wanted {wanted:?}");
    }

    /// Answers from their letters: `x` is right.
    fn answers(text: &str) -> Vec<bool> {
        text.chars().map(|letter| letter == 'x').collect()
    }

    #[test]
    fn singleton_clusters_give_the_usual_standard_error() {
        // Gains 1 1 1 -1 0 0 0 0 0 0: mean 0.2, squares 4 - 10 * 0.04 = 3.6,
        // standard error sqrt(3.6 / 9 / 10) = 0.2, times 1.959964.
        let found = PairedDifference::new(
            &answers("___x___xxx"),
            &answers("xxx____xxx"),
            &(0..10).collect::<Vec<_>>(),
        );
        assert!((found.mean - 0.2).abs() < 1e-12);
        assert_close(found.interval, (-0.191_993, 0.591_993));
        assert_eq!((found.rows, found.clusters, found.is_significant()), (10, 10, false));
    }

    #[test]
    fn rows_of_one_image_form_a_cluster() {
        // Gains 1 1 | 1 | -1 0 | 0: mean 1/3. Sums less the mean: 4/3, 2/3, -5/3, -1/3;
        // squares (16 + 4 + 25 + 1) / 9 = 46/9; standard error sqrt(4/3 * 46/9) / 6 = 0.435087.
        let (first, second) = (answers("___x_x"), answers("xxx__x"));
        let found = PairedDifference::new(&first, &second, &[7, 7, 2, 5, 5, 9]);
        assert!((found.mean - 1.0 / 3.0).abs() < 1e-12);
        assert_close(found.interval, (1.0 / 3.0 - 0.852_754, 1.0));
        assert_eq!(found.clusters, 4);
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
        let found = PairedDifference::new(&same, &same, &[0, 1, 2, 3]);
        assert_eq!((found.mean, found.interval, found.is_significant()), (0.0, (0.0, 0.0), false));
    }

    #[test]
    fn a_row_without_an_image_is_its_own_cluster() {
        let row = |image: Option<&str>| Instruction {
            image: image.map(String::from),
            ..Instruction::new("a", "", "b")
        };
        let rows = [row(Some("a")), row(None), row(Some("b")), row(Some("a")), row(None)];
        assert_eq!(clusters_by_image(&rows), [0, 1, 2, 0, 4]);
    }
}
