//! JSON text ─► its records: the elements of a list, or a sequence of values.
//!
//! ```text
//! [ ... ]                     a list
//! { ... } { ... } ...         a sequence: JSON Lines, or objects in any layout
//! { "data": [ ... ], ... }    one object that is no record itself, around one list of objects
//! ```

use std::io::BufRead;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::{OpenOptions, Opened, Reader};
use crate::input::Input;
use crate::names::field_names;
use crate::record::{Location, MAX_RECORD_BYTES, Record, Records, records, too_long, utf8};
use crate::value_scanner::ValueScanner;

/// The layout of JSON data, for hints.
const LAYOUT_HINT: &str = "rows are a JSON list of objects, or one object per line";

pub(crate) struct Json;

impl Reader for Json {
    fn recognizes(&self, input: &Input, _options: &OpenOptions) -> bool {
        matches!(input.head.trim_ascii_start().first(), Some(b'[' | b'{'))
    }

    fn open(&self, input: &Input, options: &OpenOptions) -> Result<Opened> {
        let hint = options.schema.record_hint();
        let records = |scanner, layout| JsonRecords::open(input, scanner, layout, hint);
        if input.head.trim_ascii_start().first() == Some(&b'[') {
            let records = records(ValueScanner::new(input.text()?), Layout::List)?;
            return Ok(Opened::new("a JSON list", hint, records));
        }
        if let Some(outline) = Outline::read(input)?
            && !outline.is_followed
            && !options.schema.is_record(&outline.values)
            && outline.values.values().any(|value| value.is_object() || value.is_array())
        {
            let name = outline.single_list(input)?;
            let description = format!("a JSON object with the list `{name}`");
            let records = records(seek_list(input, &name)?, Layout::InnerList)?;
            let opened = Opened::new(description, hint, records);
            return Ok(Opened { list: Some(name), ..opened });
        }
        let records = records(ValueScanner::new(input.text()?), Layout::Sequence)?;
        Ok(Opened::new("JSON Lines", hint, records))
    }
}

type Scanner = ValueScanner<Box<dyn BufRead>>;

/// The only object of a file, with lists cut to their first element, and long values to nothing.
struct Outline {
    values: Map<String, Value>,
    /// Whether anything follows the object.
    is_followed: bool,
}

impl Outline {
    /// Values that decide what a record is are short.
    const MAX_VALUE: usize = 1 << 20;

    /// The outline of the first value; `None` if it is no valid object.
    fn read(input: &Input) -> Result<Option<Self>> {
        let mut scanner = ValueScanner::new(input.text()?);
        let mut read = || -> std::io::Result<Option<Self>> {
            let mut values = Map::new();
            if !scanner.accept(b'{')? {
                return Ok(None);
            }
            while scanner.peek()? == Some(b'"') {
                let Some(name) = next_name(&mut scanner)? else { return Ok(None) };
                let value = if scanner.accept(b'[')? {
                    let first = if scanner.peek()? == Some(b']') {
                        None
                    } else {
                        scanner.scan_start(Self::MAX_VALUE)?;
                        Some(serde_json::from_slice(scanner.text()).unwrap_or_default())
                    };
                    scanner.skip_to_end()?;
                    Value::Array(first.into_iter().collect())
                } else {
                    scanner.scan_start(Self::MAX_VALUE)?;
                    serde_json::from_slice(scanner.text()).unwrap_or_default()
                };
                values.insert(name, value);
                if !scanner.accept(b',')? {
                    break;
                }
            }
            if !scanner.accept(b'}')? {
                return Ok(None);
            }
            Ok(Some(Self { values, is_followed: scanner.peek()?.is_some() }))
        };
        read().map_err(|source| input.read_error(source))
    }

    /// The name of the only list of objects.
    fn single_list(&self, input: &Input) -> Result<String> {
        let is_row_list = |value: &Value| value.get(0).is_some_and(Value::is_object);
        let lists = self.values.iter().filter(|(_, value)| value.is_array() && is_row_list(value));
        let lists = lists.map(|(name, _)| name).collect::<Vec<_>>();
        if let [name] = &lists[..] {
            return Ok((*name).clone());
        }
        let count = if lists.is_empty() { "no list" } else { "more than one list" };
        let names = field_names(&self.values);
        Err(Error::UnknownFormat {
            path: input.path.clone(),
            reason: format!("one JSON object with {names}: {count} of rows"),
            advice: Some(LAYOUT_HINT.into()),
        })
    }
}

/// A scanner at the beginning of a list of the object that a file is.
fn seek_list(input: &Input, list: &str) -> Result<Scanner> {
    let mut scanner = ValueScanner::new(input.text()?);
    let mut seek = || -> std::io::Result<()> {
        scanner.accept(b'{')?;
        while let Some(name) = next_name(&mut scanner)? {
            // As in a map, the last of several values with one name counts; `read` saw the same file.
            let is_list = scanner.peek()? == Some(b'[');
            if name == list && is_list {
                break;
            }
            scanner.scan_start(0)?;
            scanner.accept(b',')?;
        }
        Ok(())
    };
    seek().map_err(|source| input.read_error(source))?;
    Ok(scanner)
}

/// The name of the next value of an object, and the colon behind it; `None` if there is no name.
fn next_name(scanner: &mut Scanner) -> std::io::Result<Option<String>> {
    const MAX_NAME: usize = 1 << 16;
    if scanner.peek()? != Some(b'"') {
        return Ok(None);
    }
    scanner.scan_start(MAX_NAME)?;
    let name = serde_json::from_slice(scanner.text()).ok();
    Ok(if scanner.accept(b':')? { name } else { None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    List,
    /// A list in an object: more text follows.
    InnerList,
    Sequence,
}

/// The records of a list or a sequence.
struct JsonRecords {
    input: Input,
    scanner: Scanner,
    layout: Layout,
    hint: &'static str,
    /// Records so far.
    count: usize,
}

impl JsonRecords {
    /// The records that begin at the scanner.
    fn open(
        input: &Input,
        mut scanner: Scanner,
        layout: Layout,
        hint: &'static str,
    ) -> Result<Records> {
        if layout != Layout::Sequence {
            scanner.accept(b'[').map_err(|source| input.read_error(source))?;
        }
        let mut json = Self { input: input.clone(), scanner, layout, hint, count: 0 };
        Ok(records(move || json.next_record()))
    }

    fn next_record(&mut self) -> Result<Option<Record>> {
        if self.next_value()? { self.parse().map(Some) } else { Ok(None) }
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged {
            path: self.input.path.clone(),
            location: Location::Line(self.scanner.line).to_string(),
            reason: reason.into(),
            format_hint: self.hint,
        }
    }

    /// Goes to the next element of a list; `false` at its end.
    fn next_element(&mut self) -> Result<bool> {
        let read_error = |source| self.input.read_error(source);
        if self.scanner.accept(b']').map_err(read_error)? {
            let is_followed =
                self.layout == Layout::List && self.scanner.peek().map_err(read_error)?.is_some();
            if is_followed {
                return Err(self.damaged("not valid JSON: text after the list"));
            }
            return Ok(false);
        }
        if self.count > 0 && !self.scanner.accept(b',').map_err(read_error)? {
            let expected = "expected `,` or `]`";
            return Err(match self.scanner.peek().map_err(read_error)? {
                None => self.damaged(format!("not valid JSON: EOF, {expected}")),
                Some(_) => self.damaged(format!("not valid JSON: {expected}")),
            });
        }
        match self.scanner.peek().map_err(read_error)? {
            None => Err(self.damaged("not valid JSON: EOF while parsing a list")),
            Some(b']') => Err(self.damaged("not valid JSON: trailing comma")),
            Some(_) => Ok(true),
        }
    }

    fn next_value(&mut self) -> Result<bool> {
        match self.layout {
            Layout::List | Layout::InnerList => self.next_element(),
            Layout::Sequence => {
                let next = self.scanner.peek().map_err(|source| self.input.read_error(source))?;
                Ok(next.is_some())
            }
        }
    }

    fn parse(&mut self) -> Result<Record> {
        let read_error = |source| self.input.read_error(source);
        let found = self.scanner.scan(MAX_RECORD_BYTES).map_err(read_error)?;
        self.count += 1;
        let location = match self.layout {
            Layout::List | Layout::InnerList => Location::Record(self.count),
            Layout::Sequence => Location::Line(found.line),
        };
        if found.is_cut {
            return Err(too_long(&self.input.path, location, self.hint));
        }
        let parsed = utf8(&self.input.path, found.line, self.scanner.text())
            .and_then(|text| self.parse_text(text, found.line));
        if parsed.is_err() && self.layout == Layout::Sequence && self.scanner.line == found.line {
            // The rest of the line belongs to what could not be parsed.
            self.scanner.skip_line().map_err(read_error)?;
        }
        Ok(Record { location, value: parsed? })
    }

    fn parse_text(&self, text: &str, first_line: usize) -> Result<Value> {
        serde_json::from_str(text).map_err(|error| {
            // Parsing the line alone gives the better error, unless its value continues below.
            let line = text.lines().next().unwrap_or_default().trim_end();
            let continues = line.ends_with(['{', '[', ',', ':']);
            let line_error = serde_json::from_str::<IgnoredAny>(line).err();
            let error = line_error.filter(|_| !continues).unwrap_or(error);
            let suffix = |first_line: usize| {
                format!(" at line {} column {}", error.line() + first_line - 1, error.column())
            };
            let message = error.to_string();
            let message = message.strip_suffix(&suffix(1)).unwrap_or(&message);
            let line = match self.layout {
                Layout::List | Layout::InnerList => first_line + error.line() - 1,
                Layout::Sequence => first_line,
            };
            Error::Record {
                path: self.input.path.clone(),
                location: Location::Line(line).to_string(),
                reason: format!("not valid JSON: {message}{}", suffix(first_line)),
                format_hint: self.hint,
                text: Some(text.trim_end().to_owned()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::format::tests::{open_text, records};

    fn locations(text: &str) -> Vec<String> {
        records("a.json", text)
            .into_iter()
            .map(|record| record.unwrap().location.to_string())
            .collect()
    }

    fn messages(text: &str) -> Vec<String> {
        let records = records("a.json", text).into_iter();
        records.filter_map(|record| Some(record.err()?.to_string())).collect()
    }

    #[test]
    fn records_are_located_by_line_or_index() {
        assert_eq!(locations("\u{feff}[1, {}]"), ["record 1", "record 2"]);
        assert_eq!(locations("\u{feff}{}\n\n2\n"), ["line 1", "line 3"]);
    }

    #[test]
    fn values_may_span_lines_or_share_one() {
        let pretty = "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}{\"a\": 3} {\"a\": 4}\n{\"a\": 5}";
        let records = records("a.json", pretty).into_iter().map(Result::unwrap);
        let found = records.map(|record| (record.location, record.value["a"].as_u64().unwrap()));
        let expected = [(1, 1), (4, 2), (6, 3), (6, 4), (7, 5)];
        let expected = expected.map(|(line, value)| (Location::Line(line), value));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_error_is_reported_at_the_first_line_of_its_value_and_the_next_value_is_read() {
        let lines = messages("{\"a\": 1}\n{\"a\": 2\n{\"a\": 3}\n");
        let expected =
            "a.json, line 2: not valid JSON: EOF while parsing an object at line 2 column 7";
        assert_eq!(lines, [expected]);
        let pretty = messages("{\"a\": 1}\n{\n  \"a\": !\n}\n{}");
        let expected = "a.json, line 2: not valid JSON: expected value at line 3 column 8";
        assert_eq!(pretty, [expected]);
        let found = records("a.json", "{\"a\": 1}\n{oops oops\n{\"a\": 2}\nno no no\n{\"a\": 3}");
        let values =
            found.into_iter().map(|record| record.ok().map(|record| record.value["a"].clone()));
        let expected = [Some(1), None, Some(2), None, Some(3)].map(|value| value.map(Value::from));
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_invalid_list_is_reported_by_line() {
        let invalid = messages("[1,\n2,\n!]");
        assert!(invalid[0].starts_with("a.json, line 3: not valid JSON: "), "{invalid:?}");
        for (text, expected) in [
            ("[1,\n2", "a.json, line 2: not valid JSON: EOF, expected `,` or `]`"),
            ("[1,\n2,", "a.json, line 2: not valid JSON: EOF while parsing a list"),
            ("[1,\n]", "a.json, line 2: not valid JSON: trailing comma"),
            ("[1\n2]", "a.json, line 2: not valid JSON: expected `,` or `]`"),
            ("[1] 2", "a.json, line 1: not valid JSON: text after the list"),
            ("[", "a.json, line 1: not valid JSON: EOF while parsing a list"),
        ] {
            assert_eq!(messages(text), [expected]);
        }
    }

    #[test]
    fn invalid_utf_8_is_reported_with_its_line() {
        let bytes = b"{\"a\": 1}\n\n{\"a\": \"caf\xe9\"}\n{}".as_slice();
        let input = Input::memory(Path::new("a.json"), bytes).unwrap();
        let opened = Json.open(&input, &OpenOptions::default()).unwrap();
        let found = opened.records.map(|record| record.map_err(|error| error.to_string()));
        let found = found.collect::<Vec<_>>();
        assert_eq!(found[1], Err("a.json, line 3: not UTF-8: there is a byte 0xe9".into()));
        assert!(found[0].is_ok() && found[2].is_ok());
    }

    #[test]
    fn the_only_list_of_objects_in_an_object_is_streamed() {
        let text =
            r#"{"version": {"a": [1]}, "ids": [1, 2], "data": [{"a": 1}, {"a": 2}], "x": "}"}"#;
        let opened = open_text("a.json", text).unwrap();
        assert_eq!(opened.list.as_deref(), Some("data"));
        let found = opened.records.map(|record| record.unwrap().value["a"].clone());
        assert_eq!(found.collect::<Vec<_>>(), [1, 2]);
        let error = open_text("a.json", "{\"a\": [{}], \"b\": [{}]}").err().unwrap().to_string();
        assert!(error.contains("`a`, `b`: more than one list of rows"), "{error}");
    }

    #[test]
    fn an_object_followed_by_another_is_a_record() {
        let text = r#"{"data": [{"a": 1}]}{"data": []}"#;
        assert_eq!(records("a.json", text).len(), 2);
    }
}
