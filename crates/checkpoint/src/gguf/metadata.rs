//! Metadata: values by key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::value::{FromValue, Value};
use crate::byte_reader::ByteReader;
use crate::error::{Error, Result};

/// Maximum length of a key in bytes, as in the format.
const MAX_KEY_LEN: u64 = 65535;

/// Metadata of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn read(reader: &mut ByteReader<'_>, path: &Path, len: usize) -> Result<Self> {
        let mut values = BTreeMap::new();
        for index in 0..len {
            let key = reader.text(MAX_KEY_LEN, &format!("metadata key {index}"))?;
            let value = Value::read(reader, &key)?;
            if values.contains_key(&key) {
                return Err(reader.fail(format!("metadata key {key} appears twice")));
            }
            values.insert(key, value);
        }
        Ok(Self { path: path.into(), values })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// As [`required`](Self::required), `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::Format`] for a value of another type.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let wrong = || {
            self.invalid(format!("metadata {key} is {}, expected {}", value.kind(), T::EXPECTED))
        };
        T::from_value(value).map(Some).ok_or_else(wrong)
    }

    /// The value of a key, as `usize`, `f64`, `bool`, `&str` or a `Vec` of one of these.
    ///
    /// # Errors
    /// [`Error::Format`] for an absent key and for a value of another type.
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| {
            self.invalid(format!("metadata {key} is missing, expected {}", T::EXPECTED))
        })
    }

    /// The error about the metadata.
    fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::Format { path: self.path.clone(), format: "GGUF", reason: reason.into() }
    }
}
