//! A text with a header line and separators ─► records with one field per column.

use std::io::{self, BufRead, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::{OpenOptions, Opened, Reader};
use crate::input::Input;
use crate::names::name_list;
use crate::record::{Location, MAX_RECORD_BYTES, Record, records, too_long, utf8};

pub(crate) struct Table {
    /// Whether the separator is a tab; otherwise it is found.
    pub tabs: bool,
}

impl Reader for Table {
    fn recognizes(&self, input: &Input, options: &OpenOptions) -> bool {
        let Some(columns) = self.columns(input, options) else { return false };
        let columns = renamed(&columns, options);
        options.schema.has_columns(&columns.iter().map(String::as_str).collect::<Vec<_>>())
            || has_extension(&input.path, "csv")
            || has_extension(&input.path, "tsv")
    }

    fn open(&self, input: &Input, options: &OpenOptions) -> Result<Opened> {
        let hint = options.schema.table_hint();
        let delimiter = self.delimiter(input);
        let unknown = |reason: String| Error::UnknownFormat {
            path: input.path.clone(),
            reason,
            advice: Some(hint.into()),
        };
        let Some(columns) = self.columns(input, options) else {
            return Err(unknown("a table without a header".into()));
        };
        if let Some(mapping) = options.columns {
            mapping.check(&input.path, &columns)?;
        }
        let names = renamed(&columns, options);
        if !options.schema.has_columns(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
            let names = name_list(columns.iter().map(String::as_str));
            return Err(unknown(format!("a table with the columns {names}")));
        }
        let limited = Limited { reader: input.text()?, budget: MAX_RECORD_BYTES };
        let reader = ReaderBuilder::new().delimiter(delimiter).from_reader(limited);
        let first_end = input.head.iter().position(|&byte| byte == b'\n').unwrap_or(0);
        let has_carriage_returns = input.head[..first_end].ends_with(b"\r");
        let mut table = TableRecords {
            reader,
            columns,
            input: input.clone(),
            hint,
            lines_behind: usize::from(has_carriage_returns),
        };
        let separators = match delimiter {
            b'\t' => "tabs",
            b';' => "semicolons",
            _ => "commas",
        };
        let description = format!("a table, separated by {separators}");
        Ok(Opened::new(description, hint, records(move || table.next_record())))
    }
}

impl Table {
    /// The separator is a comma if the header has one, otherwise a tab or a semicolon; in `.tsv` files a
    /// tab precedes commas.
    ///
    /// Source: LLaMA-Adapter's `PretrainDataset` reads its `.csv` files separated by tabs.
    fn delimiter(&self, input: &Input) -> u8 {
        let header = input.head.split(|&byte| byte == b'\n');
        let header = header.map(<[u8]>::trim_ascii_end).find(|line| !line.is_empty());
        let has = |separator| header.unwrap_or_default().contains(&separator);
        let tabs = has(b'\t') && (!has(b',') || has_extension(&input.path, "tsv"));
        if self.tabs || tabs {
            b'\t'
        } else if has(b';') && !has(b',') {
            b';'
        } else {
            b','
        }
    }

    /// Column names in lower case, unless the mapping names them as they are; `None` if the header is no line of a table.
    fn columns(&self, input: &Input, options: &OpenOptions) -> Option<Vec<String>> {
        let mut reader =
            ReaderBuilder::new().delimiter(self.delimiter(input)).from_reader(&*input.head);
        let columns = reader.headers().ok()?;
        let name = |name: &str| match options.columns {
            Some(mapping) if mapping.mentions(name) => name.to_owned(),
            _ => name.to_lowercase(),
        };
        Some(columns.iter().map(|column| name(column.trim())).collect())
    }
}

/// The names of the fields that the columns become.
fn renamed(columns: &[String], options: &OpenOptions) -> Vec<String> {
    match options.columns {
        None => columns.to_vec(),
        Some(mapping) => mapping.rename_columns(columns),
    }
}

/// The lines after the header.
struct TableRecords {
    reader: csv::Reader<Limited<Box<dyn BufRead>>>,
    columns: Vec<String>,
    input: Input,
    hint: &'static str,
    /// Lines that the reader is behind: it sees the `\n` of a `\r\n` with the next record.
    lines_behind: usize,
}

impl TableRecords {
    fn next_record(&mut self) -> Result<Option<Record>> {
        self.reader.get_mut().budget = MAX_RECORD_BYTES;
        let mut record = ByteRecord::new();
        let before = self.reader.position().line() as usize;
        let read = self.reader.read_byte_record(&mut record);
        let is_read = read.map_err(|error| self.error(error, before))?;
        if is_read { self.record(&record).map(Some) } else { Ok(None) }
    }

    fn record(&self, record: &ByteRecord) -> Result<Record> {
        let line = record.position().map_or(1, csv::Position::line) as usize + self.lines_behind;
        let mut fields = Map::new();
        for (name, text) in self.columns.iter().zip(record) {
            let text = utf8(&self.input.path, line, text)?;
            // The first of several columns with the same name is used.
            fields.entry(name.as_str()).or_insert_with(|| match text {
                // A table has no other way to omit a value.
                "" => Value::Null,
                text => Value::String(text.into()),
            });
        }
        Ok(Record { location: Location::Line(line), value: Value::Object(fields) })
    }

    fn error(&self, error: csv::Error, line: usize) -> Error {
        let position = error.position().map(|position| position.line() as usize);
        let location = Location::Line(position.unwrap_or(line) + self.lines_behind);
        let path = &self.input.path;
        match error.into_kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::Record {
                path: path.clone(),
                location: location.to_string(),
                reason: format!("{len} fields, the header has {expected_len}"),
                format_hint: self.hint,
                text: None,
            },
            csv::ErrorKind::Io(_) if self.reader.get_ref().budget == 0 => {
                too_long(path, location, self.hint)
            }
            csv::ErrorKind::Io(source) => self.input.read_error(source),
            other => Error::Damaged {
                path: path.clone(),
                location: location.to_string(),
                reason: format!("not a line of a table: {other:?}"),
                format_hint: self.hint,
            },
        }
    }
}

/// Ends with an error when the budget is used up, which each record renews: a quote that is never closed
/// must not take the whole file into memory.
struct Limited<R> {
    reader: R,
    budget: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            return Err(io::Error::other("the record is too long"));
        }
        let len = self.reader.read(buffer)?;
        self.budget = self.budget.saturating_sub(len);
        Ok(len)
    }
}

fn has_extension(path: &Path, name: &str) -> bool {
    // `rows.csv.gz` is a table too.
    let names = [Some(path.as_os_str()), path.file_stem()];
    let mut extensions = names.into_iter().flatten().filter_map(|name| Path::new(name).extension());
    extensions.any(|extension| extension.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{open_text, records};

    fn fields(name: &str, text: &str) -> Vec<Value> {
        records(name, text).into_iter().map(|record| record.unwrap().value).collect()
    }

    #[test]
    fn a_field_may_contain_separators_quotes_and_line_ends() {
        let text = "\u{feff}Name ,b\r\n\"a, \"\"ä\"\"\nc\",\r\nx,y\r\n";
        let expected = [
            serde_json::json!({"name": "a, \"ä\"\nc", "b": null}),
            serde_json::json!({"name": "x", "b": "y"}),
        ];
        assert_eq!(fields("a.csv", text), expected);
        let locations = records("a", text).into_iter().map(|record| record.unwrap().location);
        assert_eq!(locations.collect::<Vec<_>>(), [Location::Line(2), Location::Line(4)]);
    }

    #[test]
    fn the_first_of_two_columns_with_one_name_is_used() {
        assert_eq!(fields("a", "b,b\n1,2\n"), [serde_json::json!({"b": "1"})]);
    }

    #[test]
    fn a_line_of_another_length_is_reported_and_the_next_one_is_read() {
        let found = records("a.tsv", "a\tb\n1\n2\t3\n");
        let error = found[0].as_ref().unwrap_err().to_string();
        assert_eq!(error, "a.tsv, line 2: 1 fields, the header has 2");
        assert_eq!(found[1].as_ref().unwrap().value["b"], "3");
    }

    #[test]
    fn a_table_by_its_extension_gets_an_error_about_its_columns() {
        let error = open_text("rows.csv.gz", "name\na\n").err().unwrap().to_string();
        assert!(error.starts_with("rows.csv.gz: a table with the columns `name`;"), "{error}");
    }
}
