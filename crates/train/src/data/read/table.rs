//! A text with a header line and separators ─► records with one field per column.

use std::path::Path;

use csv::{Reader, ReaderBuilder};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The format of a table, for hints.
pub(super) const FORMAT_HINT: &str = "a table has a header with `instruction`, `input` and \
    `output`, or with `url` (or `image`, or `path`) and `caption`, separated by commas or tabs; put \
    a text that contains a separator in quotes";

/// A table.
pub(super) struct Table<'a> {
    reader: Reader<&'a [u8]>,
    /// Column names in lower case.
    columns: Vec<String>,
}

impl<'a> Table<'a> {
    /// The table in a text; `None` if its header cannot be parsed. The separator is a comma if the
    /// header has one, otherwise a tab or a semicolon; in `.tsv` files a tab precedes commas.
    ///
    /// Source: LLaMA-Adapter's `PretrainDataset` reads its `.csv` files separated by tabs.
    pub fn parse(path: &Path, text: &'a str) -> Option<Self> {
        let header = text.lines().find(|line| !line.is_empty()).unwrap_or("");
        let tabs = header.contains('\t') && (!header.contains(',') || has_extension(path, "tsv"));
        let delimiter = if tabs {
            b'\t'
        } else if header.contains(';') && !header.contains(',') {
            b';'
        } else {
            b','
        };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
        let columns = reader.headers().ok()?;
        let columns = columns.iter().map(|name| name.trim().to_lowercase()).collect();
        Some(Self { reader, columns })
    }

    /// Whether its columns make rows according to `is_row`, or its file has a table's extension.
    pub fn is_data_table(&self, path: &Path, is_row: &dyn Fn(&[&str]) -> bool) -> bool {
        is_row(&self.columns()) || has_extension(path, "csv") || has_extension(path, "tsv")
    }

    /// Column names.
    pub fn columns(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).collect()
    }

    /// All lines after the header, each with its location.
    ///
    /// # Errors
    /// [`Error::Record`] for a line whose length differs from the header.
    pub fn records(mut self, path: &Path) -> impl Iterator<Item = Result<(String, Value)>> {
        let mut record = csv::StringRecord::new();
        std::iter::from_fn(move || match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let line = record.position().map_or(1, csv::Position::line);
                let mut fields = Map::new();
                for (name, text) in self.columns.iter().zip(&record) {
                    // The first of several columns with the same name is used.
                    fields.entry(name.as_str()).or_insert_with(|| match text {
                        // A table has no other way to omit a value.
                        "" => Value::Null,
                        text => Value::String(text.into()),
                    });
                }
                Some(Ok((format!("line {line}"), Value::Object(fields))))
            }
            Err(error) => Some(Err(csv_error(&error, path))),
        })
    }
}

fn has_extension(path: &Path, name: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name))
}

fn csv_error(error: &csv::Error, path: &Path) -> Error {
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, the header has {expected_len}")
        }
        _ => format!("not a line of a table: {error}"),
    };
    let line = error.position().map_or(1, csv::Position::line);
    Error::Record {
        path: path.into(),
        location: format!("line {line}"),
        reason,
        format_hint: FORMAT_HINT,
    }
}
