//! How many answers are right, how sure that is, and the same for each group of rows.

use serde::{Deserialize, Serialize};

use crate::data::Instruction;
use crate::data::read::SCIENCE_QA_TAGS;

/// Standard deviations to either side of the mean that hold 95 % of a normal distribution.
pub(crate) const Z95: f64 = 1.959_963_984_540_054;

/// How many answers are right.
///
/// ```
/// use train::Accuracy;
///
/// let found = Accuracy::of(&[true, true, false, true]);
/// assert_eq!(found.share(), 0.75);
/// let (low, high) = found.interval();
/// assert!(low < 0.31 && high > 0.95); // four rows tell little
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accuracy {
    /// Rows answered with the wanted answer.
    #[serde(rename = "right")]
    pub correct: usize,
    /// Rows asked.
    pub rows: usize,
}

impl Accuracy {
    /// Counts the rows that are right.
    pub fn from_correct(right: &[bool]) -> Self {
        Self { correct: right.iter().filter(|&&right| right).count(), rows: right.len() }
    }

    /// Share of right answers, 0 to 1; 0 where no row was asked.
    pub fn fraction(&self) -> f64 {
        self.correct as f64 / self.rows.max(1) as f64
    }

    /// Wilson's interval: where the share of a great many such rows lies, with 95 % confidence.
    /// It takes rows to be independent. 0 to 1 where no row was asked.
    ///
    /// Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
    /// Journal of the American Statistical Association 22 (1927).
    pub fn wilson_interval(&self) -> (f64, f64) {
        if self.rows == 0 {
            return (0.0, 1.0);
        }
        let (rows, share) = (self.rows as f64, self.fraction());
        let spread = Z95 * Z95 / rows;
        let centre = (share + spread / 2.0) / (1.0 + spread);
        let variance = share * (1.0 - share) / rows + spread / (4.0 * rows);
        let half = Z95 * variance.sqrt() / (1.0 + spread);
        // At no or all right the limit is exact; rounding would leave it beside.
        let low = if self.correct == 0 { 0.0 } else { centre - half };
        let high = if self.correct == self.rows { 1.0 } else { centre + half };
        (low, high)
    }
}

/// Accuracy of each tag's rows, in the order in which tags first appear; ScienceQA's tags in the
/// order of its own tables.
///
/// # Panics
/// If there is not one `right` for each row.
pub fn accuracy_by_tag(rows: &[Instruction], right: &[bool]) -> Vec<(String, Accuracy)> {
    assert_eq!(rows.len(), right.len(), "one `right` a row");
    let mut groups: Vec<(String, Accuracy)> = Vec::new();
    for (row, &right) in rows.iter().zip(right) {
        for tag in &row.tags {
            let at = groups.iter().position(|(name, _)| name == tag).unwrap_or_else(|| {
                groups.push((tag.clone(), Accuracy::default()));
                groups.len() - 1
            });
            let found = &mut groups[at].1;
            found.rows += 1;
            found.correct += usize::from(right);
        }
    }
    let place = |tag: &str| SCIENCE_QA_TAGS.iter().position(|known| *known == tag);
    if groups.iter().all(|(tag, _)| place(tag).is_some()) {
        groups.sort_by_key(|(tag, _)| place(tag));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: (f64, f64), wanted: (f64, f64)) {
        assert!((found.0 - wanted.0).abs() < 1e-6, "{found:?}, wanted {wanted:?}");
        assert!((found.1 - wanted.1).abs() < 1e-6, "{found:?}, wanted {wanted:?}");
    }

    #[test]
    fn the_interval_is_the_wilson_score_interval() {
        // The two shares p with |8/10 - p| = z sqrt(p (1 - p) / 10), and the same for 3612 of 4241,
        // found by halving an interval, in Python.
        assert_close(Accuracy { correct: 8, rows: 10 }.wilson_interval(), (0.490_162, 0.943_318));
        assert_close(
            Accuracy { correct: 3612, rows: 4241 }.wilson_interval(),
            (0.840_671, 0.862_064),
        );
    }

    #[test]
    fn all_or_none_correct_gives_an_exact_bound() {
        // With all of n right the lower limit is n / (n + z^2): 10 / 13.841459.
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

    fn tagged(tags: &[&str]) -> Instruction {
        let tags = tags.iter().map(|&tag| tag.into()).collect();
        Instruction { tags, ..Instruction::new("a", "", "b") }
    }

    #[test]
    fn a_row_counts_for_each_of_its_tags() {
        let rows = [tagged(&["dark", "far"]), tagged(&["bright", "far"]), tagged(&[])];
        let found = accuracy_by_tag(&rows, &[true, false, true]);
        let wanted = [("dark", 1, 1), ("far", 1, 2), ("bright", 0, 1)];
        assert_eq!(
            found,
            wanted.map(|(tag, right, rows)| (tag.into(), Accuracy { correct: right, rows }))
        );
    }

    #[test]
    fn science_qa_tags_keep_the_order_of_its_tables() {
        let names = |rows: &[Instruction]| {
            accuracy_by_tag(rows, &vec![true; rows.len()])
                .into_iter()
                .map(|(tag, _)| tag)
                .collect::<Vec<_>>()
        };
        let rows = [tagged(&["LAN", "NO", "G7-12"]), tagged(&["NAT", "TXT", "IMG", "G1-6"])];
        assert_eq!(names(&rows), ["NAT", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"]);
        // Other data may use one of these words for something else.
        assert_eq!(
            names(&[tagged(&["YES"]), tagged(&["NO"]), tagged(&["LAN"])]),
            ["YES", "NO", "LAN"]
        );
    }
}
