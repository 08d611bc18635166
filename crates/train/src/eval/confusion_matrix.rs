//! What was wanted, what was given ─► a table that shows what a model mistakes for what.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::data::Instruction;

/// Answers with a line of their own.
const MAX_CLASSES: usize = 12;

/// Letters of an answer that the table shows.
const MAX_LABEL_CHARS: usize = 16;

/// How often each answer was given where each was wanted.
///
/// Displayed as a table, wanted answers in rows, given ones in columns:
///
/// ```
/// use train::ConfusionMatrix;
///
/// let found = ConfusionMatrix::from_pairs([("yes", Some("yes")), ("yes", Some("no")), ("no", None)]);
/// assert_eq!(
///     found.to_string(),
///     "wanted  yes  no  other\n\
///      yes       1   1      0\n\
///      no        0   0      1\n"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix {
    /// The answers wanted most often, at most twelve; of equals the one given more often.
    pub answers: Vec<String>,
    /// For each wanted answer how often each was given, both as in `answers`, with all others
    /// together at the end.
    pub counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// Counts pairs of the wanted answer and the one given; `None` is one that could not be read.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let pairs = pairs.into_iter().collect::<Vec<_>>();
        let mut seen: Vec<(&str, [usize; 2])> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for &(wanted, given) in &pairs {
            for (side, answer) in [Some(wanted), given].into_iter().enumerate() {
                let Some(answer) = answer else { continue };
                let place = *places.entry(answer).or_insert_with(|| {
                    seen.push((answer, [0, 0]));
                    seen.len() - 1
                });
                seen[place].1[side] += 1;
            }
        }
        seen.sort_by(|(_, a), (_, b)| b.cmp(a));
        seen.truncate(MAX_CLASSES);
        let answers = seen.iter().map(|(answer, _)| (*answer).to_string()).collect::<Vec<_>>();
        let places = seen.iter().enumerate().map(|(place, (answer, _))| (*answer, place));
        let places = places.collect::<HashMap<_, _>>();
        let other = answers.len();
        let place = |answer: &str| places.get(answer).copied().unwrap_or(other);
        let mut counts = vec![vec![0; other + 1]; other + 1];
        for (wanted, given) in pairs {
            counts[place(wanted)][given.map_or(other, place)] += 1;
        }
        Self { answers, counts }
    }

    /// Counts rows by their wanted answer and the option chosen, as
    /// [`parse_choice`](crate::parse_choice) gives it.
    ///
    /// # Panics
    /// If there is not one choice for each row.
    pub fn from_choices(rows: &[Instruction], chosen: &[Option<usize>]) -> Self {
        assert_eq!(rows.len(), chosen.len(), "one choice a row");
        Self::from_pairs(rows.iter().zip(chosen).map(|(row, chosen)| {
            let given = chosen.and_then(|index| row.options.get(index));
            (row.output.as_str(), given.map(String::as_str))
        }))
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.answers.len();
        let names = self.answers.iter().map(|answer| short_label(answer));
        let names = names.chain(["other".to_string()]).collect::<Vec<_>>();
        let width = |name: &str| name.chars().count();
        let column = |place: usize| {
            let digits = self.counts.iter().map(|row| row[place].to_string().len()).max();
            width(&names[place]).max(digits.unwrap_or(0))
        };
        let columns = (0..=other).map(column).collect::<Vec<_>>();
        let head = names.iter().map(|name| width(name)).max().unwrap_or(0).max("wanted".len());
        write!(f, "{:head$}", "wanted")?;
        for (name, &column) in names.iter().zip(&columns) {
            write!(f, "  {name:>column$}")?;
        }
        writeln!(f)?;
        for (place, (name, row)) in names.iter().zip(&self.counts).enumerate() {
            // Most data has few answers: then no row was wanted that has no line.
            if place == other && row.iter().all(|&count| count == 0) {
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

/// An answer as the table names it: on one line, `(B)` for `The answer is (B).`, cut.
fn short_label(answer: &str) -> String {
    let name = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    let letter = name.strip_prefix("The answer is (").and_then(|rest| rest.strip_suffix(")."));
    match (letter, name.char_indices().nth(MAX_LABEL_CHARS)) {
        (Some(letter), _) => format!("({letter})"),
        (None, Some((end, _))) => format!("{}...", &name[..end]),
        (None, None) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sorted_by_expected_count() {
        let found = ConfusionMatrix::from_pairs([
            ("no", Some("yes")),
            ("yes", Some("yes")),
            ("yes", None),
            ("no", Some("no")),
            ("yes", Some("maybe")),
        ]);
        assert_eq!(found.answers, ["yes", "no", "maybe"]);
        assert_eq!(found.counts, [[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]);
    }

    #[test]
    fn classes_after_the_twelfth_are_merged() {
        let names = (0..20).map(|n| format!("n{n:02}")).collect::<Vec<_>>();
        // n00 is wanted 20 times, n01 19 times, ...; each time the next one is given.
        let pairs = (0..20).flat_map(|n| {
            std::iter::repeat_n((names[n].as_str(), Some(names[(n + 1) % 20].as_str())), 20 - n)
        });
        let found = ConfusionMatrix::from_pairs(pairs);
        assert_eq!(found.answers, names[..12]);
        assert_eq!((found.counts[0][1], found.counts[11][12]), (20, 9));
        // n12 to n18 were wanted and answered with one another, n19 with n00.
        assert_eq!(
            found.counts[12],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8 + 7 + 6 + 5 + 4 + 3 + 2]
        );
        assert_eq!(found.counts.iter().flatten().sum::<usize>(), 210);
        assert_eq!(found.to_string().lines().count(), 1 + 13);
    }

    #[test]
    fn choices_are_counted_by_option() {
        let options = ["The answer is (A).", "The answer is (B)."].map(String::from);
        let row = Instruction {
            options: options.to_vec(),
            ..Instruction::new("a", "", "The answer is (B).")
        };
        let found = ConfusionMatrix::from_choices(
            &[row.clone(), row.clone(), row],
            &[Some(0), Some(9), None],
        );
        assert_eq!(
            found.to_string(),
            "wanted  (B)  (A)  other\n(B)       0    1      2\n(A)       0    0      0\n"
        );
    }

    #[test]
    fn a_long_label_is_truncated_to_one_line() {
        let long = "one\ntwo three four ünd five";
        let found = ConfusionMatrix::from_pairs([(long, Some(long))]).to_string();
        assert_eq!(
            found.lines().nth(1).unwrap(),
            "one two three fo...                    1      0"
        );
    }

    #[test]
    fn no_rows_make_an_empty_table() {
        assert_eq!(ConfusionMatrix::from_pairs([]).to_string(), "wanted  other\n");
    }
}
