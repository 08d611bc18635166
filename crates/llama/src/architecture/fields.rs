//! The fields of a `config.json`, one by one.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// A JSON object of a file.
pub(super) struct Fields<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: &'a Path, json: &'a Value) -> Self {
        Self { path, json }
    }

    /// A field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.json.get(key).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| self.fail(format!("{key}: {error}")))
    }

    /// A field that must be there.
    pub(super) fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| self.fail(format!("{key} is missing")))
    }

    /// Whether the field is there, be it null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.json.get(key).is_some()
    }

    /// An object within the object, if it is there and not empty.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(json @ Value::Object(object)) => {
                Ok((!object.is_empty()).then_some(Self { path: self.path, json }))
            }
            Some(_) => Err(self.fail(format!("{key}: not an object"))),
        }
    }

    /// Refuses another kind of the activation than these names of one.
    pub(super) fn refuse_activation(&self, key: &str, fine: &[&str]) -> Result<()> {
        match self.optional::<String>(key)?.filter(|found| !fine.contains(&found.as_str())) {
            Some(found) => Err(Error::config(key, found, fine.join(" or "))),
            None => Ok(()),
        }
    }

    /// Refuses a setting that changes the arithmetic in a way that is not known here.
    pub(super) fn refuse<T>(&self, key: &str, fine: T) -> Result<()>
    where
        T: DeserializeOwned + PartialEq + ToString,
    {
        match self.optional::<T>(key)?.filter(|found| *found != fine) {
            Some(found) => Err(Error::config(key, found.to_string(), fine.to_string())),
            None => Ok(()),
        }
    }

    fn fail(&self, reason: String) -> Error {
        Error::Format { path: self.path.into(), format: "JSON", reason }
    }
}
