//! A Parquet file ─► its rows as objects: nested lists and structs too.
//!
//! The file is read page by page. Without Arrow: rows are read with the record interface of the crate
//! `parquet`, and each becomes a JSON object.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parquet::basic::{Compression, ConvertedType, Repetition};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};
use crate::format::{OpenOptions, Opened, Reader};
use crate::input::Input;
use crate::names::{first_chars, name_list};
use crate::record::{Location, Record, records};

/// The format of a Parquet file, for hints.
const FORMAT_HINT: &str = "the file may be incomplete or damaged: download or write it again";

pub(crate) struct Parquet;

impl Reader for Parquet {
    fn recognizes(&self, input: &Input, _options: &OpenOptions) -> bool {
        input.head.starts_with(b"PAR1")
    }

    fn open(&self, input: &Input, options: &OpenOptions) -> Result<Opened> {
        let path = &input.path;
        let file = input.seekable()?;
        let reader = guard(|| SerializedFileReader::new(file));
        let reader = reader.map_err(|reason| damaged(path, "metadata", reason))?;
        check_compression(path, &reader)?;
        let schema = reader.metadata().file_metadata().schema();
        check_schema(schema).map_err(|reason| damaged(path, "schema", reason))?;
        let columns = schema.get_fields().iter().map(|field| field.name().to_owned());
        let columns = columns.collect::<Vec<_>>();
        if let Some(mapping) = options.columns {
            mapping.check(path, &columns)?;
        }
        let rows = reader.metadata().file_metadata().num_rows();
        let names = name_list(columns.iter().map(String::as_str));
        let description = format!("a Parquet file of {rows} rows with the columns {names}");
        let rows = guard(|| Ok(RowIter::from_file_into(Box::new(reader))));
        let rows = rows.map_err(|reason| damaged(path, "metadata", reason))?;
        let mut rows = ParquetRecords { path: path.clone(), rows, count: 0 };
        let records = records(move || rows.next_record());
        Ok(Opened::new(description, options.schema.record_hint(), records))
    }
}

/// The rows of a file.
struct ParquetRecords {
    path: PathBuf,
    rows: RowIter<'static>,
    count: usize,
}

impl ParquetRecords {
    fn next_record(&mut self) -> Result<Option<Record>> {
        self.count += 1;
        let location = Location::Row(self.count);
        // Some dates that no calendar has panic when they become text.
        let row = guard(|| Ok(self.rows.next().transpose()?.map(object)));
        let value = row.map_err(|reason| damaged(&self.path, &location.to_string(), reason))?;
        Ok(value.map(|value| Record { location, value }))
    }
}

/// Runs code of the crate `parquet`, which panics at some damaged pages.
fn guard<T>(run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    let message = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(message(panic).unwrap_or_else(|| "invalid data".into())),
    }
}

fn damaged(path: &Path, location: &str, reason: String) -> Error {
    /// Some messages contain a whole schema.
    const MAX_REASON: usize = 200;
    Error::Damaged {
        path: path.into(),
        location: location.into(),
        reason: format!("not valid Parquet: {}", first_chars(&reason, MAX_REASON)),
        format_hint: FORMAT_HINT,
    }
}

/// Refuses what no reader of this build decompresses.
fn check_compression(path: &Path, reader: &impl FileReader) -> Result<()> {
    let groups = reader.metadata().row_groups().iter();
    let name =
        groups.flat_map(RowGroupMetaData::columns).find_map(|column| match column.compression() {
            Compression::BROTLI(_) => Some("Brotli"),
            Compression::LZO => Some("LZO"),
            _ => None,
        });
    match name {
        None => Ok(()),
        Some(name) => Err(Error::UnsupportedFile {
            path: path.into(),
            what: format!("a Parquet file compressed with {name}"),
            hint: "write it again with another compression, for instance in Python: \
                pyarrow.parquet.write_table(table, \"rows.parquet\", compression=\"zstd\")",
        }),
    }
}

/// Refuses schemas that the crate `parquet` panics at.
fn check_schema(schema: &Type) -> Result<(), String> {
    let Type::GroupType { basic_info, fields, .. } = schema else { return Ok(()) };
    let invalid = |what: &str| Err(format!("the column `{}` is {what}", basic_info.name()));
    let is_repeated_group = |field: &Type| {
        let info = field.get_basic_info();
        info.has_repetition() && info.repetition() == Repetition::REPEATED
    };
    if fields.is_empty() {
        return invalid("a group without fields");
    }
    match basic_info.converted_type() {
        ConvertedType::LIST if fields.len() != 1 || !is_repeated_group(&fields[0]) => {
            return invalid("an invalid list");
        }
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => {
            let is_valid = fields.len() == 1
                && is_repeated_group(&fields[0])
                && fields[0].is_group()
                && (1..=2).contains(&fields[0].get_fields().len());
            if !is_valid {
                return invalid("an invalid map");
            }
        }
        _ => {}
    }
    fields.iter().try_for_each(|field| {
        if !field.get_basic_info().has_repetition() {
            return Err(format!("the column `{}` has no repetition", field.name()));
        }
        check_schema(field)
    })
}

/// The object of a row.
fn object(row: Row) -> Value {
    let columns = row.into_columns();
    if let [(bytes, Field::Bytes(image)), (path, _)] = &columns[..]
        && (bytes.as_str(), path.as_str()) == ("bytes", "path")
        && let Some(kind) = image_kind(image.data())
    {
        // Hugging Face's `Image`.
        return format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(image.data())).into();
    }
    let fields = columns.into_iter().map(|(name, field)| (name, value(field)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        // Through text: 0.1 stays 0.1, and not 0.10000000149011612.
        Field::Float16(value) => number(&value.to_string()),
        Field::Float(value) => number(&value.to_string()),
        Field::Double(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => match str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => BASE64_STANDARD.encode(bytes.data()).into(),
        },
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        Field::MapInternal(map) => {
            let name = |key: &Field| match key {
                Field::Str(text) => text.clone(),
                other => other.to_string(),
            };
            let entries = map.entries().iter();
            Value::Object(entries.map(|(key, field)| (name(key), value(field.clone()))).collect())
        }
        // Times and decimals, as they are usually written.
        other => other.to_string().into(),
    }
}

fn number(text: &str) -> Value {
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map_or(Value::Null, Value::Number)
}

/// The kind of an image file.
fn image_kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}
