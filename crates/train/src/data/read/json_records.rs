//! text of a JSON file ─► its records, each with the place that messages call it by

use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::data::FORMAT_HINT;
use crate::error::{Error, Result};

/// Records one after the other, each with its place.
pub(crate) type RecordIter<'a> = Box<dyn Iterator<Item = Result<(String, Value)>> + 'a>;

/// A text without the mark that some editors write before it.
pub(crate) fn strip_bom(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The records of a JSON list, or of JSON values one behind the other: on a line each, or on several.
///
/// # Errors
/// [`Error::Record`] where the text is no JSON; of values one behind the other a fault is told when
/// it is reached.
pub(crate) fn json_records<'a>(path: &'a Path, text: &'a str) -> Result<RecordIter<'a>> {
    let text = strip_bom(text);
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| json_error(path, error.line(), &error, 1))?;
        return Ok(list_records(list));
    }
    Ok(Box::new(JsonValues { path, rest: text, line: 1, is_broken: false }))
}

/// The records of a list.
pub(crate) fn list_records<'a>(list: Vec<Value>) -> RecordIter<'a> {
    let named = list.into_iter().enumerate();
    Box::new(named.map(|(i, value)| Ok((format!("record {}", i + 1), value))))
}

/// A fault in a record that begins in a line; what was parsed began in `first`.
fn json_error(path: &Path, line: usize, error: &serde_json::Error, first: usize) -> Error {
    let place =
        |first: usize| format!(" at line {} column {}", error.line() + first - 1, error.column());
    let told = error.to_string();
    let told = told.strip_suffix(&place(1)).unwrap_or(&told);
    let reason = format!("not valid JSON: {told}{}", place(first));
    Error::Record {
        path: path.into(),
        location: format!("line {line}"),
        reason,
        format_hint: FORMAT_HINT,
    }
}

/// JSON values one behind the other.
struct JsonValues<'a> {
    path: &'a Path,
    /// What is left of the text.
    rest: &'a str,
    /// The line that it begins in, counted from 1.
    line: usize,
    is_broken: bool,
}

impl JsonValues<'_> {
    /// Goes on behind some bytes.
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
        if self.rest.is_empty() || self.is_broken {
            return None;
        }
        let begin = self.line;
        let mut values = Deserializer::from_str(self.rest).into_iter();
        let found = values.next()?;
        let behind = values.byte_offset();
        Some(match found {
            Ok(value) => {
                self.advance(behind);
                Ok((format!("line {begin}"), value))
            }
            Err(error) => {
                self.is_broken = true;
                // The line alone tells better what is wrong with it, unless its value goes on below.
                let line = self.rest.lines().next().unwrap_or_default().trim_end();
                let goes_on = line.ends_with(['{', '[', ',', ':']);
                let of_line = serde_json::from_str::<IgnoredAny>(line).err();
                let error = of_line.filter(|_| !goes_on).unwrap_or(error);
                Err(json_error(self.path, begin, &error, begin))
            }
        })
    }
}

/// Refuses data without a single row.
///
/// # Errors
/// [`Error::Empty`].
pub(crate) fn require_rows<T>(rows: Vec<T>, path: &Path, reason: &str) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Err(Error::NoRows {
            name: path.display().to_string(),
            purpose: "learn from",
            reason: reason.into(),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let found = json_records(Path::new("a.json"), text).unwrap();
        found.map(|record| record.unwrap().0).collect()
    }

    #[test]
    fn records_are_located_by_line_or_index() {
        assert_eq!(places("\u{feff}[1, 2]"), ["record 1", "record 2"]);
        assert_eq!(places("\u{feff}1\n\n2\n"), ["line 1", "line 3"]);
        assert_eq!(places(" \n"), [""; 0]);
    }

    #[test]
    fn values_may_go_over_several_lines_or_share_one() {
        let pretty = "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}{\"a\": 3} {\"a\": 4}\n{\"a\": 5}";
        let found = json_records(Path::new("a.json"), pretty).unwrap();
        let found = found.map(|record| record.unwrap());
        let found = found.map(|(place, value)| (place, value["a"].as_u64().unwrap()));
        let wanted = [(1, 1), (4, 2), (6, 3), (6, 4), (7, 5)];
        let wanted = wanted.map(|(line, value)| (format!("line {line}"), value));
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn an_error_is_reported_once_at_the_first_line_of_its_value() {
        let messages = |text: &str| {
            let found = json_records(Path::new("a.json"), text).unwrap();
            found.filter_map(|one| Some(one.err()?.to_string())).collect::<Vec<_>>()
        };
        let lines = messages("{\"a\": 1}\n{\"a\": 2\n{\"a\": 3}\n");
        assert_eq!(lines.len(), 1);
        let told = "a.json, line 2: not valid JSON: EOF while parsing an object at line 2 column 7";
        assert_eq!(lines[0], told);
        let pretty = messages("{\"a\": 1}\n{\n  \"a\": !\n}\n");
        let told = "a.json, line 2: not valid JSON: expected value at line 3 column 8";
        assert_eq!(pretty, [told]);
    }

    #[test]
    fn an_invalid_list_is_reported_by_line() {
        let error = json_records(Path::new("a.json"), "[1,\n2,\n!").err().unwrap();
        assert!(error.to_string().starts_with("a.json, line 3: not valid JSON: "), "{error}");
    }
}
