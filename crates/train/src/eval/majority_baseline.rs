//! Baselines that only know how common each answer is.
//!
//! A model uses its question and image only as far as it beats them.

use std::collections::HashMap;

use crate::data::Instruction;

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
/// instruction; if there are none, of those with the same tags; if there are none either, of all.
///
/// ```
/// use train::Instruction;
/// use train::eval::{Accuracy, majority_baseline};
///
/// let row = |question, answer| Instruction::new(question, "", answer);
/// let train = [row("Is it dark?", "no"), row("How many?", "2"), row("How many?", "2")];
/// let correct = majority_baseline(&train, &[row("Is it dark?", "no"), row("How many?", "3")]);
/// assert_eq!(Accuracy::from_correct(&correct).fraction(), 0.5);
/// ```
pub fn majority_baseline(train: &[Instruction], rows: &[Instruction]) -> Vec<bool> {
    let mut by_instruction: HashMap<&str, AnswerCounts> = HashMap::new();
    let mut by_tags: HashMap<&[String], AnswerCounts> = HashMap::new();
    let mut overall = AnswerCounts::default();
    for row in train {
        let answer = row.output.trim();
        by_instruction.entry(&row.instruction).or_default().add(answer);
        by_tags.entry(&row.tags).or_default().add(answer);
        overall.add(answer);
    }
    let is_correct = |row: &Instruction| {
        let counts = by_instruction.get(row.instruction.as_str());
        let counts = counts.or_else(|| by_tags.get(&row.tags[..])).unwrap_or(&overall);
        counts.most_common() == Some(row.output.trim())
    };
    rows.iter().map(is_correct).collect()
}

/// Which rows are correct if all get the single most common answer of the training rows.
pub fn global_majority_baseline(train: &[Instruction], rows: &[Instruction]) -> Vec<bool> {
    let mut counts = AnswerCounts::default();
    for row in train {
        counts.add(row.output.trim());
    }
    let answer = counts.most_common();
    rows.iter().map(|row| answer == Some(row.output.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instruction: &str, tag: &str, output: &str) -> Instruction {
        Instruction { tags: vec![tag.into()], ..Instruction::new(instruction, "", output) }
    }

    fn train() -> Vec<Instruction> {
        vec![
            row("Is it dark?", "light", "no"),
            row("Is it dark?", "light", "yes"),
            row("Is it dark?", "light", "no"),
            row("How many?", "count", "3"),
            row("How many cars?", "count", "2"),
            row("How many dogs?", "count", "2"),
            row("Which?", "other", "yes"),
            row("Which one?", "other", "yes"),
        ]
    }

    #[test]
    fn the_same_question_takes_precedence_over_the_same_tags() {
        let is_correct = |instruction: &str, tag: &str, output: &str| {
            majority_baseline(&train(), &[row(instruction, tag, output)])[0]
        };
        assert!(is_correct("Is it dark?", "count", "no"));
        assert!(is_correct("How many?", "count", "3"));
        assert!(is_correct("How many birds?", "count", "2"));
        assert!(!is_correct("How many birds?", "count", "3"));
        assert!(is_correct("Is it cold?", "heat", "yes"));
    }

    #[test]
    fn the_global_baseline_gives_one_answer_to_all_rows() {
        let rows = [row("Is it dark?", "light", "no"), row("How many?", "count", " yes\n")];
        assert_eq!(global_majority_baseline(&train(), &rows), [false, true]);
    }

    #[test]
    fn ties_take_the_first_answer() {
        let train = ["b", "c", "a", "c", "b"].map(|answer| row("x", "y", answer));
        let rows = ["a", "b", "c"].map(|answer| row("x", "y", answer));
        assert_eq!(majority_baseline(&train, &rows), [false, true, false]);
        assert_eq!(global_majority_baseline(&train, &rows), [false, true, false]);
    }

    #[test]
    fn without_training_rows_accuracy_is_zero() {
        let rows = [row("x", "y", "")];
        assert_eq!(majority_baseline(&[], &rows), [false]);
        assert_eq!(global_majority_baseline(&[], &rows), [false]);
    }
}
