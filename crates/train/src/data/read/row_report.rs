//! What was dropped, adjusted or unused while rows were read.
//!
//! ```text
//! data ─► rows
//!     └─► RowReport ─► messages for people, counts for programs
//! ```

use std::collections::BTreeMap;

use ::data::names::{first_chars, join_first};
use serde::{Deserialize, Serialize};

use super::record_kind::RecordKind;

/// Why a row was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropReason {
    /// The prompt is empty.
    EmptyPrompt,
    /// The output is empty.
    EmptyOutput,
    /// The response is a tool call in a field that is not read.
    ToolCall,
    /// A conversation without a response.
    NoAnswer,
    /// The prompt alone exceeds the maximum length.
    TooLong,
    /// The image cannot be read.
    BrokenImage,
    /// The record cannot be parsed, or its fields are not those of a row.
    InvalidRecord,
}

impl DropReason {
    fn description(self) -> &'static str {
        match self {
            Self::EmptyPrompt => "the prompt is empty",
            Self::EmptyOutput => "the answer is empty",
            Self::ToolCall => "the answer is a tool call, which is not supported",
            Self::NoAnswer => "there is no answer",
            Self::TooLong => "the prompt alone is too long",
            Self::BrokenImage => "the image cannot be read",
            Self::InvalidRecord => "the record is invalid",
        }
    }
}

/// How the content of a usable row was adjusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowAdjustment {
    /// A number or boolean was used as text.
    NumberAsText,
    /// An answer before the first question of a conversation was dropped.
    #[serde(rename = "answer_first")]
    LeadingAnswerDropped,
    /// A question without an answer at the end of a conversation was dropped.
    #[serde(rename = "question_last")]
    TrailingQuestionDropped,
    /// Two consecutive turns of the same role were merged.
    #[serde(rename = "turns_joined")]
    TurnsMerged,
    /// The chosen answer of a preference pair was used, and the rejected one was not.
    ChosenAnswer,
}

impl RowAdjustment {
    fn description(self, count: usize) -> &'static str {
        let (singular, plural) = match self {
            Self::NumberAsText => (
                "number or boolean is used as its JSON text",
                "numbers or booleans are used as their JSON text",
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
                "turn is merged with the turn before it, of the same role",
                "turns are merged with the turns before them, of the same role",
            ),
            Self::ChosenAnswer => (
                "preference pair: the chosen answer is used, the rejected one is not",
                "preference pairs: the chosen answers are used, the rejected ones are not",
            ),
        };
        if count == 1 { singular } else { plural }
    }
}

/// How often something occurred, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: usize,
    /// The first locations, such as `line 3`.
    pub first_locations: Vec<String>,
}

impl Occurrences {
    /// Locations that are kept for messages.
    const MAX_LOCATIONS: usize = 5;

    fn add(&mut self, location: &str) {
        self.count += 1;
        // One record may have several occurrences.
        let is_new = self.first_locations.last().is_none_or(|last| last != location);
        if self.first_locations.len() < Self::MAX_LOCATIONS && is_new {
            self.first_locations.push(location.into());
        }
    }

    /// ` (line 3, line 9, ...)`, or nothing without locations.
    fn describe(&self) -> String {
        if self.first_locations.is_empty() {
            return String::new();
        }
        let more = if self.count > self.first_locations.len() { ", ..." } else { "" };
        format!(" ({}{more})", self.first_locations.join(", "))
    }
}

/// What was dropped, adjusted or unused while rows were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowReport {
    /// Dropped rows by reason.
    pub dropped: BTreeMap<DropReason, Occurrences>,
    /// Adjustments of usable rows by kind.
    pub adjustments: BTreeMap<RowAdjustment, Occurrences>,
    /// Unused fields, each with its number of records. `messages[].name` is a field of turns.
    pub unused_fields: BTreeMap<String, usize>,
    /// Fields that were read under another name, such as `question as instruction`, each with its
    /// number of records.
    pub aliases: BTreeMap<String, usize>,
    /// Formats of the files, each with its number of files.
    pub formats: BTreeMap<String, usize>,
    /// Records of each kind.
    pub kinds: BTreeMap<RecordKind, usize>,
}

impl RowReport {
    /// Names that are counted individually.
    const MAX_NAMES: usize = 64;

    /// Counts a dropped row.
    pub fn drop_row(&mut self, reason: DropReason, location: &str) {
        self.dropped.entry(reason).or_default().add(location);
    }

    pub(crate) fn count_adjustment(&mut self, adjustment: RowAdjustment, location: &str) {
        self.adjustments.entry(adjustment).or_default().add(location);
    }

    pub(crate) fn count_kind(&mut self, kind: RecordKind) {
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// The kinds of records that were recognized, such as `12 conversations`; `None` without records.
    pub fn describe_kinds(&self) -> Option<String> {
        let kinds = self.kinds.iter();
        let kinds = kinds.map(|(kind, &count)| format!("{count} {}", kind.description(count)));
        (!self.kinds.is_empty()).then(|| kinds.collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn count_unused_field(&mut self, name: &str) {
        count_name(&mut self.unused_fields, name);
    }

    pub(crate) fn count_file(&mut self, format: &str) {
        count_name(&mut self.formats, format);
    }

    /// The formats that were recognized, such as `JSON Lines`; `None` without files.
    pub fn describe_formats(&self) -> Option<String> {
        match (self.formats.len(), self.formats.iter().next()) {
            (1, Some((format, 1))) => Some(format.clone()),
            (0, _) => None,
            _ => {
                let files = self.formats.values().sum::<usize>();
                Some(format!("{files} files: {}", format_counts(&self.formats)))
            }
        }
    }

    pub(crate) fn count_alias(&mut self, alias: &str) {
        count_name(&mut self.aliases, alias);
    }

    /// One line per kind of finding; empty without findings.
    pub fn messages(&self) -> Vec<String> {
        let rows = |count: usize| if count == 1 { "row is" } else { "rows are" };
        let dropped = self.dropped.iter().map(|(reason, occurrences)| {
            let (count, shown) = (occurrences.count, occurrences.describe());
            format!("{count} {} left out: {}{shown}", rows(count), reason.description())
        });
        let adjustments = self.adjustments.iter().map(|(adjustment, occurrences)| {
            let count = occurrences.count;
            format!("{count} {}{}", adjustment.description(count), occurrences.describe())
        });
        let aliases =
            (!self.aliases.is_empty()).then(|| format!("read {}", format_counts(&self.aliases)));
        let unused = (!self.unused_fields.is_empty())
            .then(|| format!("unused fields: {}", format_counts(&self.unused_fields)));
        dropped.chain(adjustments).chain(aliases).chain(unused).collect()
    }

    /// Adds the counts of other data. The locations are removed, because the lines of several files
    /// cannot be told apart.
    pub fn merge(&mut self, other: Self) {
        fn merge_counts<K: Ord>(to: &mut BTreeMap<K, Occurrences>, from: BTreeMap<K, Occurrences>) {
            for (key, occurrences) in from {
                to.entry(key).or_default().count += occurrences.count;
            }
            for occurrences in to.values_mut() {
                occurrences.first_locations.clear();
            }
        }
        merge_counts(&mut self.dropped, other.dropped);
        merge_counts(&mut self.adjustments, other.adjustments);
        for (name, more) in other.unused_fields {
            *self.unused_fields.entry(name).or_default() += more;
        }
        for (format, more) in other.formats {
            *self.formats.entry(format).or_default() += more;
        }
        for (kind, more) in other.kinds {
            *self.kinds.entry(kind).or_default() += more;
        }
        for (alias, more) in other.aliases {
            *self.aliases.entry(alias).or_default() += more;
        }
    }
}

/// Counts a name from a file, in bounded memory.
fn count_name(names: &mut BTreeMap<String, usize>, name: &str) {
    const MAX_NAME_CHARS: usize = 60;
    let name = first_chars(name, MAX_NAME_CHARS);
    let is_room = names.len() < RowReport::MAX_NAMES || names.contains_key(name);
    *names.entry(if is_room { name } else { "others" }.into()).or_default() += 1;
}

/// `id (3), source (2), ...`, the most frequent first.
fn format_counts(names: &BTreeMap<String, usize>) -> String {
    const MAX_NAMES_SHOWN: usize = 8;
    let mut names = names.iter().collect::<Vec<_>>();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let names = names.into_iter().map(|(name, count)| format!("{} ({count})", name.escape_debug()));
    join_first(names, MAX_NAMES_SHOWN)
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
                "2 numbers or booleans are used as their JSON text (record 1, ...)",
                "read prompt as instruction (1)",
                "unused fields: id (2), source (1)",
            ]
        );
        let mut both = report.clone();
        both.merge(report);
        let (dropped, adjusted) = (
            &both.dropped[&DropReason::EmptyOutput],
            &both.adjustments[&RowAdjustment::NumberAsText],
        );
        assert_eq!((dropped.count, adjusted.count, both.unused_fields["id"]), (14, 4, 4));
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
