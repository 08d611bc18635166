//! The text of a JSON file ─► its records, each with its location for messages.

use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::data::FORMAT_HINT;
use crate::error::{Error, Result};

/// Records, each with its location.
pub(crate) type RecordIter<'a> = Box<dyn Iterator<Item = Result<(String, Value)>> + 'a>;

/// Removes a byte order mark.
pub(crate) fn strip_bom(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The records of a JSON list, or of a sequence of JSON values: one per line or in any layout.
///
/// # Errors
/// [`Error::Record`] for invalid JSON; in a sequence, when the iterator reaches it.
pub(crate) fn json_records<'a>(path: &'a Path, text: &'a str) -> Result<RecordIter<'a>> {
    let text = strip_bom(text);
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| json_error(path, error.line(), &error, 1))?;
        return Ok(list_records(list));
    }
    Ok(Box::new(JsonValues { path, rest: text, line: 1, has_failed: false }))
}

/// The records of a list.
pub(crate) fn list_records<'a>(list: Vec<Value>) -> RecordIter<'a> {
    let named = list.into_iter().enumerate();
    Box::new(named.map(|(i, value)| Ok((format!("record {}", i + 1), value))))
}

/// The error of a record in `line`; the parsed text starts in line `first_line`.
fn json_error(path: &Path, line: usize, error: &serde_json::Error, first_line: usize) -> Error {
    let suffix = |first_line: usize| {
        format!(" at line {} column {}", error.line() + first_line - 1, error.column())
    };
    let message = error.to_string();
    let message = message.strip_suffix(&suffix(1)).unwrap_or(&message);
    let reason = format!("not valid JSON: {message}{}", suffix(first_line));
    Error::Record {
        path: path.into(),
        location: format!("line {line}"),
        reason,
        format_hint: FORMAT_HINT,
    }
}

/// A sequence of JSON values.
struct JsonValues<'a> {
    path: &'a Path,
    /// The text that is not parsed yet.
    rest: &'a str,
    /// The line in which `rest` starts, counted from 1.
    line: usize,
    has_failed: bool,
}

impl JsonValues<'_> {
    /// Skips some bytes.
    fn advance(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

impl Iterator for JsonValues<'_> {
    type Item = Result<(String, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(self.rest.len() - self.rest.trim_start().len());
        if self.rest.is_empty() || self.has_failed {
            return None;
        }
        let first_line = self.line;
        let mut values = Deserializer::from_str(self.rest).into_iter();
        let value = values.next()?;
        let value_end = values.byte_offset();
        Some(match value {
            Ok(value) => {
                self.advance(value_end);
                Ok((format!("line {first_line}"), value))
            }
            Err(error) => {
                self.has_failed = true;
                // Parsing the line alone gives the better error, unless its value continues below.
                let line = self.rest.lines().next().unwrap_or_default().trim_end();
                let continues = line.ends_with(['{', '[', ',', ':']);
                let line_error = serde_json::from_str::<IgnoredAny>(line).err();
                let error = line_error.filter(|_| !continues).unwrap_or(error);
                Err(json_error(self.path, first_line, &error, first_line))
            }
        })
    }
}

/// Rejects data without a row.
///
/// # Errors
/// [`Error::NoRows`].
pub(crate) fn require_rows<T>(rows: Vec<T>, path: &Path, reason: &str) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Err(Error::NoRows {
            name: path.display().to_string(),
            purpose: "train on",
            reason: reason.into(),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations(text: &str) -> Vec<String> {
        let records = json_records(Path::new("a.json"), text).unwrap();
        records.map(|record| record.unwrap().0).collect()
    }

    #[test]
    fn records_are_located_by_line_or_index() {
        assert_eq!(locations("\u{feff}[1, 2]"), ["record 1", "record 2"]);
        assert_eq!(locations("\u{feff}1\n\n2\n"), ["line 1", "line 3"]);
        assert_eq!(locations(" \n"), [""; 0]);
    }

    #[test]
    fn values_may_span_lines_or_share_one() {
        let pretty = "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}{\"a\": 3} {\"a\": 4}\n{\"a\": 5}";
        let records = json_records(Path::new("a.json"), pretty).unwrap();
        let records = records.map(|record| record.unwrap());
        let records = records.map(|(location, value)| (location, value["a"].as_u64().unwrap()));
        let expected = [(1, 1), (4, 2), (6, 3), (6, 4), (7, 5)];
        let expected = expected.map(|(line, value)| (format!("line {line}"), value));
        assert_eq!(records.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_error_is_reported_once_at_the_first_line_of_its_value() {
        let messages = |text: &str| {
            let records = json_records(Path::new("a.json"), text).unwrap();
            records.filter_map(|record| Some(record.err()?.to_string())).collect::<Vec<_>>()
        };
        let lines = messages("{\"a\": 1}\n{\"a\": 2\n{\"a\": 3}\n");
        assert_eq!(lines.len(), 1);
        let expected =
            "a.json, line 2: not valid JSON: EOF while parsing an object at line 2 column 7";
        assert_eq!(lines[0], expected);
        let pretty = messages("{\"a\": 1}\n{\n  \"a\": !\n}\n");
        let expected = "a.json, line 2: not valid JSON: expected value at line 3 column 8";
        assert_eq!(pretty, [expected]);
    }

    #[test]
    fn an_invalid_list_is_reported_by_line() {
        let error = json_records(Path::new("a.json"), "[1,\n2,\n!").err().unwrap();
        assert!(error.to_string().starts_with("a.json, line 3: not valid JSON: "), "{error}");
    }
}
