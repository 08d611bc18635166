//! The formats of files, and how a file's format is found.

use std::fmt;
use std::str::FromStr;

use diagnostic::Advice;
use serde_json::{Map, Value};

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::file_kind::unsupported_kind;
use crate::input::Input;
use crate::json::Json;
use crate::parquet_file::Parquet;
use crate::record::Records;
use crate::table::Table;
use crate::text::Text;

/// A reader of one file format.
pub(crate) trait Reader {
    /// Whether a file is of this format, by its content.
    fn recognizes(&self, input: &Input, options: &OpenOptions) -> bool;

    /// The records of a file of this format, one after another: a file is never whole in memory.
    fn open(&self, input: &Input, options: &OpenOptions) -> Result<Opened>;
}

/// The readers by name; the first one that recognizes a file reads it. No file is recognized as text: it is read on request.
const READERS: [(FileFormat, &dyn Reader); 6] = [
    (FileFormat::Parquet, &Parquet),
    (FileFormat::Json, &Json),
    (FileFormat::Csv, &Table { tabs: false }),
    (FileFormat::Tsv, &Table { tabs: true }),
    (FileFormat::Text, &Text { by_line: false }),
    (FileFormat::Lines, &Text { by_line: true }),
];

/// A format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// A JSON list, JSON Lines, or an object around a list.
    Json,
    /// A table with a header; the separator is found.
    Csv,
    /// A table with a header, separated by tabs.
    Tsv,
    /// A Parquet file.
    Parquet,
    /// A text: each paragraph becomes a record with the field `text`.
    Text,
    /// A text: each line becomes a record with the field `text`.
    Lines,
}

impl FileFormat {
    /// All formats.
    pub const ALL: [Self; 6] =
        [Self::Json, Self::Csv, Self::Tsv, Self::Parquet, Self::Text, Self::Lines];

    /// The name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
            Self::Text => "text",
            Self::Lines => "lines",
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| Error::Setting {
            what: "the format",
            found: name.into(),
            expected: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// What the records are for: it decides between formats where the text alone does not.
pub trait Schema {
    /// Whether an object is a record, rather than an object around a list of records. Lists are cut to
    /// their first element, and very long values are null.
    fn is_record(&self, values: &Map<String, Value>) -> bool;

    /// Whether a table with these columns has records.
    fn has_columns(&self, names: &[&str]) -> bool;

    /// What a record should look like, for hints.
    fn record_hint(&self) -> &'static str;

    /// The columns that a table should have, for hints.
    fn table_hint(&self) -> &'static str;
}

/// Records of any fields.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyFields;

impl Schema for AnyFields {
    fn is_record(&self, values: &Map<String, Value>) -> bool {
        !values.values().any(|value| value.get(0).is_some_and(Value::is_object))
    }

    fn has_columns(&self, names: &[&str]) -> bool {
        names.len() > 1
    }

    fn record_hint(&self) -> &'static str {
        "records are a JSON list of objects, or one object per line"
    }

    fn table_hint(&self) -> &'static str {
        "a table has a header"
    }
}

/// How files are opened.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// What the records are for.
    pub schema: &'a dyn Schema,
    /// The format; `None`: found by the content.
    pub format: Option<FileFormat>,
    /// Other names of the fields.
    pub columns: Option<&'a Columns>,
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        Self { schema: &AnyFields, format: None, columns: None }
    }
}

impl fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema: _, format, columns } = self;
        f.debug_struct("OpenOptions").field("format", format).field("columns", columns).finish()
    }
}

/// An opened file.
pub struct Opened {
    /// What the file is, such as `JSON Lines, compressed with gzip`.
    pub description: String,
    /// The name of the list inside an object that holds the records, if it is one.
    pub list: Option<String>,
    /// The format of such a file, for hints.
    pub format_hint: &'static str,
    /// The records.
    pub records: Records,
}

impl Opened {
    pub(crate) fn new(
        description: impl Into<String>,
        format_hint: &'static str,
        records: Records,
    ) -> Self {
        Self { description: description.into(), list: None, format_hint, records }
    }
}

/// Opens a file with the reader of its format.
pub(crate) fn open(input: &Input, options: &OpenOptions) -> Result<Opened> {
    let path = || input.path.clone();
    if input.head.trim_ascii().is_empty() && !input.is_longer {
        return Ok(Opened::new("an empty file", "", Box::new(std::iter::empty())));
    }
    if options.format.is_none()
        && !Parquet.recognizes(input, options)
        && let Some((what, hint)) = unsupported_kind(&input.head)
    {
        return Err(Error::UnsupportedFile { path: path(), what, hint });
    }
    let reader = match options.format {
        Some(format) => READERS.iter().find(|(other, _)| *other == format),
        None => READERS.iter().find(|(_, reader)| reader.recognizes(input, options)),
    };
    let Some((_, reader)) = reader else {
        return Err(Error::UnknownFormat {
            path: path(),
            reason: "neither JSON nor a table of rows".into(),
            advice: Some(Advice::ForceFormat),
        });
    };
    let mut opened = reader.open(input, options)?;
    opened.description += input.compression.description();
    if let Some(columns) = options.columns.cloned() {
        let records = opened.records;
        opened.records = Box::new(records.map(move |record| Ok(columns.rename(record?))));
    }
    Ok(opened)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::Record;

    pub fn open_text(name: &str, text: &str) -> Result<Opened> {
        open_bytes(name, text.as_bytes(), &OpenOptions::default())
    }

    pub fn open_bytes(name: &str, bytes: &[u8], options: &OpenOptions) -> Result<Opened> {
        open(&Input::memory(Path::new(name), bytes)?, options)
    }

    pub fn records(name: &str, text: &str) -> Vec<Result<Record>> {
        open_text(name, text).unwrap().records.collect()
    }

    #[test]
    fn the_content_decides_the_format_and_not_the_name() {
        let description = |text: &str| open_text("rows.txt", text).unwrap().description;
        assert_eq!(description("[{\"a\": 1}]"), "a JSON list");
        assert_eq!(description(" {\"a\": 1}\n{}"), "JSON Lines");
        assert_eq!(description("a,b\n1,2\n"), "a table, separated by commas");
        assert_eq!(description("a\tb\n1\t2\n"), "a table, separated by tabs");
        assert_eq!(description("a;b\n1;2\n"), "a table, separated by semicolons");
    }

    #[test]
    fn a_forced_format_is_used_whatever_the_content() {
        let options = OpenOptions { format: Some("lines".parse().unwrap()), ..Default::default() };
        let opened = open_bytes("a", b"{}\n", &options).unwrap();
        assert_eq!(opened.description, "text, by line");
        assert_eq!(
            opened.records.map(|record| record.unwrap().value["text"].clone()).collect::<Vec<_>>(),
            ["{}"]
        );
        let error = "xml".parse::<FileFormat>().unwrap_err().to_string();
        assert_eq!(
            error,
            "the format \"xml\" is not valid: one of json, csv, tsv, parquet, text, lines"
        );
    }

    #[test]
    fn text_is_not_guessed() {
        let error = open_text("a.txt", "hello\n").err().unwrap();
        assert!(error.to_string().contains("neither JSON nor a table of rows"), "{error}");
    }

    #[test]
    fn an_empty_file_has_no_records() {
        for text in ["", " \n\n", "\u{feff}", "[]", "a,b\n"] {
            assert_eq!(records("a", text).len(), 0, "{text:?}");
        }
    }

    #[test]
    fn an_unsupported_file_is_named_with_a_hint() {
        use diagnostic::Diagnostic;
        let utf16 = "{\"a\"".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let with_bom = [&[0xff, 0xfe][..], &utf16].concat();
        for (bytes, what, expected_hint) in [
            (&b"PK\x03\x04and more"[..], "a zip archive", "unpack"),
            (b"ARROW1\0\0", "an Arrow file", "to_parquet"),
            (b"SQLite format 3\0", "an SQLite database", ".csv"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "a Git LFS pointer",
                "git lfs pull",
            ),
            (b"\n<!DOCTYPE html><html>", "a web page", "download"),
            (b"\x40\0\0\0\0\0\0\0{\"a\":1}", "a safetensors file", "a model"),
            (&utf16, "a text in UTF-16", "UTF-8"),
            (&with_bom, "a text in UTF-16", "UTF-8"),
            (b"\x01\x02\0\x03", "a binary file", "JSON"),
        ] {
            let error = open_bytes("a", bytes, &OpenOptions::default()).err().unwrap();
            assert!(error.to_string().starts_with(&format!("a: this is {what}")), "{error}");
            let hint = error.advice().unwrap().to_string();
            assert!(hint.contains(expected_hint), "{hint}");
        }
    }
}
