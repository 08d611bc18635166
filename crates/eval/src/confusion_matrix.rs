//! Expected and predicted answers ─► a table of confusions.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// Answers that have their own row and column.
const MAX_CLASSES: usize = 12;

/// Characters of an answer that the table shows.
const MAX_LABEL_CHARS: usize = 16;

/// How often each answer was predicted for each expected answer.
///
/// Its [`Display`](fmt::Display) form is a table with expected answers in rows and predicted ones in
/// columns:
///
/// ```
/// use eval::ConfusionMatrix;
///
/// let pairs = [("yes", Some("yes")), ("yes", Some("no")), ("no", None)];
/// assert_eq!(
///     ConfusionMatrix::from_pairs(pairs).to_string(),
///     "wanted  yes  no  other\n\
///      yes       1   1      0\n\
///      no        0   0      1\n"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix {
    /// The answers that are expected most often, at most twelve; ties by how often they are predicted.
    pub answers: Vec<String>,
    /// For each expected answer, how often each answer was predicted. Both are in the order of
    /// `answers`, followed by all others together.
    pub counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// Counts pairs of the expected and the predicted answer; `None` is a response without a
    /// recognizable answer.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let pairs = pairs.into_iter().collect::<Vec<_>>();
        let mut class_counts: Vec<(&str, [usize; 2])> = Vec::new();
        let mut class_index: HashMap<&str, usize> = HashMap::new();
        for &(expected, predicted) in &pairs {
            for (side, answer) in [Some(expected), predicted].into_iter().enumerate() {
                let Some(answer) = answer else { continue };
                let index = *class_index.entry(answer).or_insert_with(|| {
                    class_counts.push((answer, [0, 0]));
                    class_counts.len() - 1
                });
                class_counts[index].1[side] += 1;
            }
        }
        class_counts.sort_by(|(_, a), (_, b)| b.cmp(a));
        class_counts.truncate(MAX_CLASSES);
        let answers = class_counts.iter().map(|(answer, _)| (*answer).to_string());
        let answers = answers.collect::<Vec<_>>();
        let class_index =
            class_counts.iter().enumerate().map(|(index, (answer, _))| (*answer, index));
        let class_index = class_index.collect::<HashMap<_, _>>();
        let other = answers.len();
        let index = |answer: &str| class_index.get(answer).copied().unwrap_or(other);
        let mut counts = vec![vec![0; other + 1]; other + 1];
        for (expected, predicted) in pairs {
            counts[index(expected)][predicted.map_or(other, index)] += 1;
        }
        Self { answers, counts }
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.answers.len();
        let names = self.answers.iter().map(|answer| short_label(answer));
        let names = names.chain(["other".to_string()]).collect::<Vec<_>>();
        let width = |name: &str| name.chars().count();
        let column = |index: usize| {
            let digits = self.counts.iter().map(|row| row[index].to_string().len()).max();
            width(&names[index]).max(digits.unwrap_or(0))
        };
        let columns = (0..=other).map(column).collect::<Vec<_>>();
        let head = names.iter().map(|name| width(name)).max().unwrap_or(0).max("wanted".len());
        write!(f, "{:head$}", "wanted")?;
        for (name, &column) in names.iter().zip(&columns) {
            write!(f, "  {name:>column$}")?;
        }
        writeln!(f)?;
        for (index, (name, row)) in names.iter().zip(&self.counts).enumerate() {
            // Data with few answers has no other expected answers.
            if index == other && row.iter().all(|&count| count == 0) {
                continue;
            }
            write!(f, "{name:head$}")?;
            for (count, &column) in row.iter().zip(&columns) {
                write!(f, "  {count:>column$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// An answer as the table shows it: on one line, `(B)` for `The answer is (B).`, truncated.
fn short_label(answer: &str) -> String {
    let label = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    let letter = label.strip_prefix("The answer is (").and_then(|rest| rest.strip_suffix(")."));
    match letter {
        Some(letter) => format!("({letter})"),
        None => match label.char_indices().nth(MAX_LABEL_CHARS) {
            Some((end, _)) => format!("{}...", &label[..end]),
            None => label,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sorted_by_expected_count() {
        let matrix = ConfusionMatrix::from_pairs([
            ("no", Some("yes")),
            ("yes", Some("yes")),
            ("yes", None),
            ("no", Some("no")),
            ("yes", Some("maybe")),
        ]);
        assert_eq!(matrix.answers, ["yes", "no", "maybe"]);
        assert_eq!(matrix.counts, [[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]);
    }

    #[test]
    fn classes_after_the_twelfth_are_merged() {
        let names = (0..20).map(|n| format!("n{n:02}")).collect::<Vec<_>>();
        // n00 is expected 20 times, n01 19 times, ...; the prediction is always the next one.
        let pairs = (0..20).flat_map(|n| {
            std::iter::repeat_n((names[n].as_str(), Some(names[(n + 1) % 20].as_str())), 20 - n)
        });
        let matrix = ConfusionMatrix::from_pairs(pairs);
        assert_eq!(matrix.answers, names[..12]);
        assert_eq!((matrix.counts[0][1], matrix.counts[11][12]), (20, 9));
        // n12 to n18 are predicted as each other, n19 as n00.
        assert_eq!(
            matrix.counts[12],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8 + 7 + 6 + 5 + 4 + 3 + 2]
        );
        assert_eq!(matrix.counts.iter().flatten().sum::<usize>(), 210);
        assert_eq!(matrix.to_string().lines().count(), 1 + 13);
    }

    #[test]
    fn an_option_letter_stands_for_its_answer() {
        let [a, b] = ["The answer is (A).", "The answer is (B)."];
        let matrix = ConfusionMatrix::from_pairs([(b, Some(a)), (b, None), (b, None)]);
        assert_eq!(
            matrix.to_string(),
            "wanted  (B)  (A)  other\n(B)       0    1      2\n(A)       0    0      0\n"
        );
    }

    #[test]
    fn a_long_label_is_truncated_to_one_line() {
        let long = "one\ntwo three four ünd five";
        let matrix = ConfusionMatrix::from_pairs([(long, Some(long))]).to_string();
        assert_eq!(
            matrix.lines().nth(1).unwrap(),
            "one two three fo...                    1      0"
        );
    }

    #[test]
    fn no_rows_make_an_empty_table() {
        assert_eq!(ConfusionMatrix::from_pairs([]).to_string(), "wanted  other\n");
    }
}
