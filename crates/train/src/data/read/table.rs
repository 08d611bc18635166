//! Lines with a header, separated by commas, tabs or semicolons ─► records with a field for each
//! column.

use std::path::Path;

use csv::{Reader, ReaderBuilder};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What a table looks like, for hints.
pub(super) const FORMAT_HINT: &str = "a table has a header with `instruction`, `input` and `output`, or \
    with `url` (or `image`, or `path`) and `caption`, separated by commas or tabs; a text with a \
    separator in it stands in quotes";

/// A table.
pub(super) struct Table<'a> {
    reader: Reader<&'a [u8]>,
    /// Names of the columns, without capitals.
    names: Vec<String>,
}

impl<'a> Table<'a> {
    /// The table that a text holds. The separator is a comma if its header has any, or else a tab or a
    /// semicolon; in files that are called `.tsv` a tab goes before commas.
    ///
    /// Source: LLaMA-Adapter's `PretrainDataset`, which reads its `.csv` files separated by tabs.
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
        let names = reader.headers().ok()?;
        let names = names.iter().map(|name| name.trim().to_lowercase()).collect();
        Some(Self { reader, names })
    }

    /// Whether its columns make what `is_row` says a row is, or its file is called a table.
    pub fn is_data_table(&self, path: &Path, is_row: &dyn Fn(&[&str]) -> bool) -> bool {
        is_row(&self.columns()) || has_extension(path, "csv") || has_extension(path, "tsv")
    }

    /// Names of its columns.
    pub fn columns(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// All lines behind the header, each with its place.
    ///
    /// # Errors
    /// [`Error::Record`] for a line of another length than the header.
    pub fn records(mut self, path: &Path) -> impl Iterator<Item = Result<(String, Value)>> {
        let mut record = csv::StringRecord::new();
        std::iter::from_fn(move || match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let line = record.position().map_or(1, csv::Position::line);
                let mut fields = Map::new();
                for (name, text) in self.names.iter().zip(&record) {
                    // Of two columns of one name the first counts.
                    fields.entry(name.as_str()).or_insert_with(|| match text {
                        // A table has no other way to say that there is none.
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

/// A line that is not like the others.
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
