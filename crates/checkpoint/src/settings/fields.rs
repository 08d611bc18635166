//! Fields of a JSON object in a config file.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// A JSON object of a config file.
pub struct Fields<'a> {
    path: &'a Path,
    json: &'a Value,
}

/// A setting whose value is not supported.
///
/// Crates convert it to their own error about a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedValue {
    /// The file.
    pub path: PathBuf,
    /// Name of the setting.
    pub field: String,
    /// Its value.
    pub found: String,
    /// The supported values.
    pub expected: String,
}

impl<'a> Fields<'a> {
    /// Fields of `json`; `path` is the file, for messages.
    pub fn new(path: &'a Path, json: &'a Value) -> Self {
        Self { path, json }
    }

    /// The JSON value of a field; null where it is absent.
    pub fn value(&self, key: &str) -> &'a Value {
        self.json.get(key).unwrap_or(&Value::Null)
    }

    /// Whether the field is present, also as null.
    pub fn has(&self, key: &str) -> bool {
        self.json.get(key).is_some()
    }

    /// A field that may be absent or null.
    ///
    /// # Errors
    /// [`Error::Format`] for a value of another type.
    pub fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        serde_json::from_value(self.value(key).clone())
            .map_err(|error| self.invalid(format!("{key}: {error}")))
    }

    /// A required field.
    ///
    /// # Errors
    /// [`Error::Format`] for an absent field and for a value of another type.
    pub fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| self.invalid(format!("{key} is missing")))
    }

    /// A nested object, if it is present and not empty.
    ///
    /// # Errors
    /// [`Error::Format`] for a value that is not an object.
    pub fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.value(key) {
            Value::Null => Ok(None),
            json @ Value::Object(object) => {
                Ok((!object.is_empty()).then_some(Self { path: self.path, json }))
            }
            _ => Err(self.invalid(format!("{key}: not an object"))),
        }
    }

    /// A field as `parse` accepts it; `default` where it is absent or null.
    ///
    /// # Errors
    /// [`UnsupportedValue`] with `expected` for a value that `parse` rejects.
    pub fn parsed<T>(
        &self,
        key: &str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, UnsupportedValue> {
        match self.value(key) {
            Value::Null => Ok(default),
            value => parse(value).ok_or_else(|| self.unsupported(key, value, expected)),
        }
    }

    /// The error for a value that is not supported.
    pub fn unsupported(
        &self,
        field: &str,
        found: impl ToString,
        expected: impl ToString,
    ) -> UnsupportedValue {
        UnsupportedValue {
            path: self.path.into(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    fn invalid(&self, reason: String) -> Error {
        Error::Format { path: self.path.into(), format: "JSON", reason }
    }
}
