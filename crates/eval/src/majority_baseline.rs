//! Baselines that only know how common each answer is.
//!
//! A model uses its question and image only as far as it beats them.

use std::collections::HashMap;

/// A row of a multiple-choice data set, as far as the baselines know it.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceRow<'a> {
    /// The question.
    pub question: &'a str,
    /// Groups of rows with the same kinds of answers.
    pub tags: &'a [String],
    /// The expected answer; whitespace around it does not count.
    pub answer: &'a str,
}

/// The count of each answer, and the order of its first occurrence.
#[derive(Default)]
struct AnswerCounts<'a>(HashMap<&'a str, (usize, usize)>);

impl<'a> AnswerCounts<'a> {
    fn add(&mut self, answer: &'a str) {
        let first = self.0.len();
        self.0.entry(answer).or_insert((0, first)).0 += 1;
    }

    /// The most common answer; the first one wins ties.
    fn most_common(&self) -> Option<&'a str> {
        let best = self.0.iter().max_by_key(|(_, (count, first))| (*count, usize::MAX - first));
        best.map(|(answer, _)| *answer)
    }
}

/// Which rows are correct if each gets the most common answer of the training rows with the same
/// question; if there are none, of those with the same tags; if there are none either, of all.
///
/// ```
/// use eval::{Accuracy, ChoiceRow, majority_baseline};
///
/// let row = |question, answer| ChoiceRow { question, tags: &[], answer };
/// let train = [row("Is it dark?", "no"), row("How many?", "2"), row("How many?", "2")];
/// let correct = majority_baseline(&train, &[row("Is it dark?", "no"), row("How many?", "3")]);
/// assert_eq!(Accuracy::from_correct(&correct).fraction(), 0.5);
/// ```
pub fn majority_baseline(train: &[ChoiceRow], rows: &[ChoiceRow]) -> Vec<bool> {
    let mut by_question: HashMap<&str, AnswerCounts> = HashMap::new();
    let mut by_tags: HashMap<&[String], AnswerCounts> = HashMap::new();
    let mut overall = AnswerCounts::default();
    for row in train {
        let answer = row.answer.trim();
        by_question.entry(row.question).or_default().add(answer);
        by_tags.entry(row.tags).or_default().add(answer);
        overall.add(answer);
    }
    let is_correct = |row: &ChoiceRow| {
        let counts = by_question.get(row.question);
        let counts = counts.or_else(|| by_tags.get(row.tags)).unwrap_or(&overall);
        counts.most_common() == Some(row.answer.trim())
    };
    rows.iter().map(is_correct).collect()
}

/// Which rows are correct if all get the single most common answer of the training rows.
pub fn global_majority_baseline(train: &[ChoiceRow], rows: &[ChoiceRow]) -> Vec<bool> {
    let mut counts = AnswerCounts::default();
    for row in train {
        counts.add(row.answer.trim());
    }
    let answer = counts.most_common();
    rows.iter().map(|row| answer == Some(row.answer.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a question, a tag and an answer.
    fn with_rows<T>(rows: &[[&str; 3]], of: impl FnOnce(&[ChoiceRow]) -> T) -> T {
        let tags = rows.iter().map(|[_, tag, _]| [(*tag).to_owned()]).collect::<Vec<_>>();
        let pairs = rows.iter().zip(&tags);
        let rows = pairs.map(|(&[question, _, answer], tags)| ChoiceRow { question, tags, answer });
        of(&rows.collect::<Vec<_>>())
    }

    const TRAIN: [[&str; 3]; 8] = [
        ["Is it dark?", "light", "no"],
        ["Is it dark?", "light", "yes"],
        ["Is it dark?", "light", "no"],
        ["How many?", "count", "3"],
        ["How many cars?", "count", "2"],
        ["How many dogs?", "count", "2"],
        ["Which?", "other", "yes"],
        ["Which one?", "other", "yes"],
    ];

    /// Which rows each baseline has correct: per question, and one answer for all.
    fn baselines(train: &[[&str; 3]], rows: &[[&str; 3]]) -> [Vec<bool>; 2] {
        with_rows(train, |train| {
            with_rows(rows, |rows| {
                [majority_baseline(train, rows), global_majority_baseline(train, rows)]
            })
        })
    }

    #[test]
    fn the_same_question_takes_precedence_over_the_same_tags() {
        let is_correct =
            |question, tag, answer| baselines(&TRAIN, &[[question, tag, answer]])[0][0];
        assert!(is_correct("Is it dark?", "count", "no"));
        assert!(is_correct("How many?", "count", "3"));
        assert!(is_correct("How many birds?", "count", "2"));
        assert!(!is_correct("How many birds?", "count", "3"));
        assert!(is_correct("Is it cold?", "heat", "yes"));
    }

    #[test]
    fn the_global_baseline_gives_one_answer_to_all_rows() {
        let rows = [["Is it dark?", "light", "no"], ["How many?", "count", " yes\n"]];
        assert_eq!(baselines(&TRAIN, &rows)[1], [false, true]);
    }

    #[test]
    fn ties_take_the_first_answer() {
        let train = ["b", "c", "a", "c", "b"].map(|answer| ["x", "y", answer]);
        let rows = ["a", "b", "c"].map(|answer| ["x", "y", answer]);
        assert_eq!(baselines(&train, &rows), [[false, true, false], [false, true, false]]);
    }

    #[test]
    fn without_training_rows_accuracy_is_zero() {
        assert_eq!(baselines(&[], &[["x", "y", ""]]), [[false], [false]]);
    }
}
