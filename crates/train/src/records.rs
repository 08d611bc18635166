//! text of a JSON file ─► its records, each with the place that messages call it by

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::instruction::FORM;

/// Records one after the other, each with its place.
pub(crate) type Records<'a> = Box<dyn Iterator<Item = Result<(String, Value)>> + 'a>;

/// A text without the mark that some editors write before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The records of a JSON list, or of JSON lines; a leading `[` tells them apart.
///
/// # Errors
/// [`Error::Record`] where the text is no JSON; lines are read one by one, so that a fault is told
/// when its line is reached.
pub(crate) fn records<'a>(path: &'a Path, text: &'a str) -> Result<Records<'a>> {
    let text = without_mark(text);
    let not_json = |place: String, error: &serde_json::Error| Error::Record {
        path: path.into(),
        place,
        reason: format!("not valid JSON: {error}"),
        form: FORM,
    };
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| not_json(format!("line {}", error.line()), &error))?;
        let named =
            list.into_iter().enumerate().map(|(i, value)| Ok((format!("record {}", i + 1), value)));
        return Ok(Box::new(named));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(Box::new(lines.map(move |(i, line)| {
        let place = format!("line {}", i + 1);
        match serde_json::from_str(line) {
            Ok(value) => Ok((place, value)),
            Err(error) => Err(not_json(place, &error)),
        }
    })))
}

/// Refuses data without a single row.
///
/// # Errors
/// [`Error::Empty`].
pub(crate) fn some<T>(rows: Vec<T>, path: &Path) -> Result<Vec<T>> {
    if rows.is_empty() {
        return Err(Error::Empty {
            name: path.display().to_string(),
            purpose: "learn from",
            reason: "the file has none".into(),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let found = records(Path::new("a.json"), text).unwrap();
        found.map(|record| record.unwrap().0).collect()
    }

    #[test]
    fn records_are_named_by_how_they_are_counted() {
        assert_eq!(places("\u{feff}[1, 2]"), ["record 1", "record 2"]);
        assert_eq!(places("\u{feff}1\n\n2\n"), ["line 1", "line 3"]);
        assert_eq!(places(" \n"), [""; 0]);
    }

    #[test]
    fn a_broken_list_is_named_by_its_line() {
        let error = records(Path::new("a.json"), "[1,\n2,\n!").err().unwrap();
        assert!(error.to_string().starts_with("a.json, line 3: not valid JSON: "), "{error}");
    }
}
