//! Accuracy with its confidence interval, and by group of rows.

use serde::{Deserialize, Serialize};

/// 95 % of a normal distribution is within this many standard deviations of the mean.
pub(crate) const Z95: f64 = 1.959_963_984_540_054;

/// The number of correct answers.
///
/// ```
/// use eval::Accuracy;
///
/// let accuracy = Accuracy::from_correct(&[true, true, false, true]);
/// assert_eq!(accuracy.fraction(), 0.75);
/// let (low, high) = accuracy.wilson_interval();
/// assert!(low < 0.31 && high > 0.95); // four rows are weak evidence
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accuracy {
    /// Rows with a correct answer.
    // `matches` is its name in checkpoints of older versions.
    #[serde(rename = "right", alias = "matches")]
    pub correct: usize,
    /// All rows.
    pub rows: usize,
}

impl Accuracy {
    /// Counts the correct rows.
    pub fn from_correct(correct: &[bool]) -> Self {
        Self { correct: correct.iter().filter(|&&correct| correct).count(), rows: correct.len() }
    }

    /// Fraction of correct answers, 0 to 1; 0 without rows.
    pub fn fraction(&self) -> f64 {
        self.correct as f64 / self.rows.max(1) as f64
    }

    /// The standard error of the fraction, for independent rows; `None` with fewer than two rows.
    pub fn standard_error(&self) -> Option<f64> {
        let fraction = self.fraction();
        let degrees = self.rows.checked_sub(1).filter(|&degrees| degrees > 0)?;
        Some((fraction * (1.0 - fraction) / degrees as f64).sqrt())
    }

    /// The 95 % Wilson score interval of the fraction, for independent rows. 0 to 1 without rows.
    ///
    /// Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
    /// Journal of the American Statistical Association 22 (1927).
    pub fn wilson_interval(&self) -> (f64, f64) {
        if self.rows == 0 {
            return (0.0, 1.0);
        }
        let (rows, fraction) = (self.rows as f64, self.fraction());
        let spread = Z95 * Z95 / rows;
        let center = (fraction + spread / 2.0) / (1.0 + spread);
        let variance = fraction * (1.0 - fraction) / rows + spread / (4.0 * rows);
        let half_width = Z95 * variance.sqrt() / (1.0 + spread);
        // The bound is exact if none or all are correct; the formula would round it.
        let low = if self.correct == 0 { 0.0 } else { center - half_width };
        let high = if self.correct == self.rows { 1.0 } else { center + half_width };
        (low, high)
    }
}

/// The accuracy of each tag's rows, in the order in which tags first occur; if all tags are in
/// `table_order`, in that order.
///
/// # Panics
/// If there are not as many `tags` as results.
pub fn accuracy_by_tag<'a>(
    tags: impl ExactSizeIterator<Item = &'a [String]>,
    correct: &[bool],
    table_order: &[&str],
) -> Vec<(String, Accuracy)> {
    assert_eq!(tags.len(), correct.len(), "one result per row");
    let mut groups: Vec<(String, Accuracy)> = Vec::new();
    for (tags, &correct) in tags.zip(correct) {
        for tag in tags {
            let at = groups.iter().position(|(name, _)| name == tag).unwrap_or_else(|| {
                groups.push((tag.clone(), Accuracy::default()));
                groups.len() - 1
            });
            let accuracy = &mut groups[at].1;
            accuracy.rows += 1;
            accuracy.correct += usize::from(correct);
        }
    }
    let table_index = |tag: &str| table_order.iter().position(|known| *known == tag);
    if groups.iter().all(|(tag, _)| table_index(tag).is_some()) {
        groups.sort_by_key(|(tag, _)| table_index(tag));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: (f64, f64), expected: (f64, f64)) {
        assert!((actual.0 - expected.0).abs() < 1e-6, "{actual:?}, expected {expected:?}");
        assert!((actual.1 - expected.1).abs() < 1e-6, "{actual:?}, expected {expected:?}");
    }

    #[test]
    fn the_interval_is_the_wilson_score_interval() {
        // The two fractions p with |8/10 - p| = z sqrt(p (1 - p) / 10), and the same for 3612 of
        // 4241, computed by bisection in Python.
        assert_close(Accuracy { correct: 8, rows: 10 }.wilson_interval(), (0.490_162, 0.943_318));
        assert_close(
            Accuracy { correct: 3612, rows: 4241 }.wilson_interval(),
            (0.840_671, 0.862_064),
        );
    }

    #[test]
    fn all_or_none_correct_gives_an_exact_bound() {
        // With all of n correct the lower limit is n / (n + z^2): 10 / 13.841459.
        assert_close(Accuracy { correct: 10, rows: 10 }.wilson_interval(), (0.722_467, 1.0));
        assert_close(Accuracy { correct: 0, rows: 10 }.wilson_interval(), (0.0, 0.277_533));
        assert_eq!(Accuracy { correct: 10, rows: 10 }.wilson_interval().1, 1.0);
        assert_eq!(Accuracy { correct: 0, rows: 10 }.wilson_interval().0, 0.0);
    }

    #[test]
    fn zero_rows_give_the_widest_interval() {
        let none = Accuracy::from_correct(&[]);
        assert_eq!((none.fraction(), none.wilson_interval()), (0.0, (0.0, 1.0)));
    }

    #[test]
    fn the_standard_error_is_that_of_a_mean() {
        // Two of three: squares 2 / 3, standard error sqrt(2 / 3 / 2 / 3).
        let error = Accuracy { correct: 2, rows: 3 }.standard_error().unwrap();
        assert!((error - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(Accuracy { correct: 1, rows: 1 }.standard_error(), None);
    }

    /// The names and accuracies of tags; all rows are correct but those whose first tag is `far`.
    fn by_tag(rows: &[&[&str]], table_order: &[&str]) -> Vec<(String, Accuracy)> {
        let owned = |tags: &&[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
        let tags = rows.iter().map(owned).collect::<Vec<_>>();
        let correct = rows.iter().map(|tags| tags.first() != Some(&"far")).collect::<Vec<_>>();
        accuracy_by_tag(tags.iter().map(Vec::as_slice), &correct, table_order)
    }

    #[test]
    fn a_row_counts_for_each_of_its_tags() {
        let accuracies = by_tag(&[&["dark", "far"], &["far", "bright"], &[]], &[]);
        let expected = [("dark", 1, 1), ("far", 1, 2), ("bright", 0, 1)];
        assert_eq!(
            accuracies,
            expected.map(|(tag, correct, rows)| (tag.into(), Accuracy { correct, rows }))
        );
    }

    #[test]
    fn known_tags_keep_the_order_of_their_table() {
        let names = |rows: &[&[&str]]| {
            let groups = by_tag(rows, &["NAT", "LAN", "IMG", "NO"]);
            groups.into_iter().map(|(tag, _)| tag).collect::<Vec<_>>()
        };
        assert_eq!(names(&[&["LAN", "NO"], &["NAT", "IMG"]]), ["NAT", "LAN", "IMG", "NO"]);
        // Other data may use one of these names with another meaning.
        assert_eq!(names(&[&["YES"], &["NO"], &["LAN"]]), ["YES", "NO", "LAN"]);
    }
}
