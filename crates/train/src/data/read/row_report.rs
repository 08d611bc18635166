//! What became of rows while they were read: left out, changed, fields that nobody used.
//!
//! ```text
//! data ─► rows
//!     └─► RowReport ─► lines for people, counts for programs
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Nothing is asked.
    EmptyPrompt,
    /// The answer is empty.
    EmptyOutput,
    /// The answer is a call of a tool in a field that is not read.
    ToolCall,
    /// A conversation in which nothing is answered.
    NoAnswer,
    /// The prompt alone is longer than a row may be.
    TooLong,
    /// The picture cannot be read.
    BrokenImage,
}

impl DropReason {
    /// What is said of such rows.
    fn description(self) -> &'static str {
        match self {
            Self::EmptyPrompt => "nothing is asked",
            Self::EmptyOutput => "the answer is empty",
            Self::ToolCall => "the answer is a call of a tool, which is not read",
            Self::NoAnswer => "nothing is answered",
            Self::TooLong => "the prompt alone is too long",
            Self::BrokenImage => "the image cannot be read",
        }
    }
}

/// What is not taken to the letter, in rows that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowAdjustment {
    /// A number or a truth value stands for a text.
    NumberAsText,
    /// An answer before the first question, which is left out.
    #[serde(rename = "answer_first")]
    LeadingAnswerDropped,
    /// A question that nobody answers, at the end of a conversation, which is left out.
    #[serde(rename = "question_last")]
    TrailingQuestionDropped,
    /// Two turns of one speaker, one behind the other, which become one.
    #[serde(rename = "turns_joined")]
    TurnsMerged,
}

impl RowAdjustment {
    /// What is said of it.
    fn words(self, count: usize) -> &'static str {
        let (one, more) = match self {
            Self::NumberAsText => (
                "number or truth value is taken as its JSON text",
                "numbers or truth values are taken as their JSON text",
            ),
            Self::LeadingAnswerDropped => (
                "answer before the first question is left out",
                "answers before the first question are left out",
            ),
            Self::TrailingQuestionDropped => (
                "last question without an answer is left out",
                "last questions without an answer are left out",
            ),
            Self::TurnsMerged => (
                "turn is joined with the one before, by the same speaker",
                "turns are joined with the ones before, by the same speaker",
            ),
        };
        if count == 1 { one } else { more }
    }
}

/// How often something was found, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: usize,
    /// The first places, such as `line 3`.
    pub first_locations: Vec<String>,
}

impl Occurrences {
    /// Places that a message names.
    const MAX_LOCATIONS: usize = 5;

    fn add(&mut self, place: &str) {
        self.count += 1;
        // A record may hold several.
        if self.first_locations.len() < Self::MAX_LOCATIONS
            && self.first_locations.last().is_none_or(|last| last != place)
        {
            self.first_locations.push(place.into());
        }
    }

    /// ` (line 3, line 9, ...)`, or nothing where no place is known.
    fn describe(&self) -> String {
        if self.first_locations.is_empty() {
            return String::new();
        }
        let more = if self.count > self.first_locations.len() { ", ..." } else { "" };
        format!(" ({}{more})", self.first_locations.join(", "))
    }
}

/// What was found while rows were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowReport {
    /// Rows that are not among those read, by reason.
    pub dropped: BTreeMap<DropReason, Occurrences>,
    /// What was not taken to the letter.
    pub adjustments: BTreeMap<RowAdjustment, Occurrences>,
    /// Fields that were not used, and in how many records. `messages[].name` is a field of turns.
    pub unused_fields: BTreeMap<String, usize>,
    /// What was read under another name, such as `question as instruction`.
    pub aliases: BTreeMap<String, usize>,
}

impl RowReport {
    /// Names that are counted one by one.
    const MAX_NAMES: usize = 64;

    /// Counts a row that is left out.
    pub fn drop_row(&mut self, reason: DropReason, place: &str) {
        self.dropped.entry(reason).or_default().add(place);
    }

    pub(crate) fn count_adjustment(&mut self, change: RowAdjustment, place: &str) {
        self.adjustments.entry(change).or_default().add(place);
    }

    pub(crate) fn count_unused_field(&mut self, name: &str) {
        count_name(&mut self.unused_fields, name);
    }

    pub(crate) fn count_alias(&mut self, what: &str) {
        count_name(&mut self.aliases, what);
    }

    /// One line for each kind of thing that was found; none, if there is nothing to tell.
    pub fn messages(&self) -> Vec<String> {
        let rows = |count: usize| if count == 1 { "row is" } else { "rows are" };
        let left_out = self.dropped.iter().map(|(reason, places)| {
            let (count, told) = (places.count, places.describe());
            format!("{count} {} left out: {}{told}", rows(count), reason.description())
        });
        let changes = self.adjustments.iter().map(|(change, places)| {
            format!("{} {}{}", places.count, change.words(places.count), places.describe())
        });
        let read_as =
            (!self.aliases.is_empty()).then(|| format!("read {}", format_counts(&self.aliases)));
        let unused = (!self.unused_fields.is_empty())
            .then(|| format!("fields that are not used: {}", format_counts(&self.unused_fields)));
        left_out.chain(changes).chain(read_as).chain(unused).collect()
    }

    /// Adds what was found in other data. Where it was found goes: the lines of several files look alike.
    pub fn merge(&mut self, other: Self) {
        fn all<K: Ord>(to: &mut BTreeMap<K, Occurrences>, from: BTreeMap<K, Occurrences>) {
            for (key, places) in from {
                to.entry(key).or_default().count += places.count;
            }
            for places in to.values_mut() {
                places.first_locations.clear();
            }
        }
        all(&mut self.dropped, other.dropped);
        all(&mut self.adjustments, other.adjustments);
        for (name, more) in other.unused_fields {
            *self.unused_fields.entry(name).or_default() += more;
        }
        for (what, more) in other.aliases {
            *self.aliases.entry(what).or_default() += more;
        }
    }
}

/// Counts a name from a file. Files may have as many names as bytes.
fn count_name(names: &mut BTreeMap<String, usize>, name: &str) {
    /// Letters of a name that are kept.
    const MAX_NAME_CHARS: usize = 60;
    let name = match name.char_indices().nth(MAX_NAME_CHARS) {
        Some((end, _)) => &name[..end],
        None => name,
    };
    let is_room = names.len() < RowReport::MAX_NAMES || names.contains_key(name);
    *names.entry(if is_room { name } else { "others" }.into()).or_default() += 1;
}

/// `id (3), source (2), ...`, the most frequent first.
fn format_counts(names: &BTreeMap<String, usize>) -> String {
    /// Names that a line has.
    const MAX_NAMES_SHOWN: usize = 8;
    let mut names = names.iter().collect::<Vec<_>>();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let told = names
        .iter()
        .take(MAX_NAMES_SHOWN)
        .map(|(name, count)| format!("{} ({count})", name.escape_debug()));
    let more = if names.len() > MAX_NAMES_SHOWN { ", ..." } else { "" };
    told.collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_reported_with_its_first_locations() {
        let mut report = RowReport::default();
        assert!(report.messages().is_empty());
        for line in 3..10 {
            report.drop_row(DropReason::EmptyOutput, &format!("line {line}"));
        }
        report.count_adjustment(RowAdjustment::NumberAsText, "record 1");
        report.count_adjustment(RowAdjustment::NumberAsText, "record 1");
        for name in ["id", "source", "id"] {
            report.count_unused_field(name);
        }
        report.count_alias("prompt as instruction");
        assert_eq!(
            report.messages(),
            [
                "7 rows are left out: the answer is empty (line 3, line 4, line 5, line 6, line 7, ...)",
                "2 numbers or truth values are taken as their JSON text (record 1, ...)",
                "read prompt as instruction (1)",
                "fields that are not used: id (2), source (1)",
            ]
        );
        let mut both = report.clone();
        both.merge(report);
        let (left_out, changes) = (
            &both.dropped[&DropReason::EmptyOutput],
            &both.adjustments[&RowAdjustment::NumberAsText],
        );
        assert_eq!((left_out.count, changes.count, both.unused_fields["id"]), (14, 4, 4));
        assert_eq!(both.messages()[0], "14 rows are left out: the answer is empty");
    }

    #[test]
    fn unbounded_field_names_use_bounded_memory() {
        let mut report = RowReport::default();
        for i in 0..1000 {
            report.count_unused_field(&format!("{i}{}", "ü".repeat(i)));
        }
        assert!(report.unused_fields.len() <= RowReport::MAX_NAMES + 1);
        assert_eq!(report.unused_fields.values().sum::<usize>(), 1000);
        assert!(report.messages()[0].len() < 2000);
    }
}
