//! The settings of a mapping in a task file, read one by one: what is left at the end is unknown.

use std::path::Path;

use serde_norway::{Mapping, Value};

use super::yaml::describe;
use crate::error::{Error, Result};

/// `doc_to_choice`.
#[derive(Debug, Clone)]
pub(super) enum Choices {
    /// The same for every document.
    Fixed(Vec<String>),
    /// A field or a template.
    Source(String),
}

/// `doc_to_target`.
#[derive(Debug, Clone)]
pub(super) enum TargetSetting {
    /// The same for every document.
    Index(i64),
    /// A field or a template.
    Source(String),
}

/// Settings that have not been read.
pub(super) struct Keys<'p> {
    pub(super) path: &'p Path,
    pub(super) settings: Mapping,
    /// Where they are, for messages.
    pub(super) prefix: &'static str,
}

impl Keys<'_> {
    /// A setting; an empty one counts as absent, as in the harness.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.settings.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.mismatch(key, &other, "a text")),
        }
    }

    pub(super) fn required_text(&mut self, key: &'static str) -> Result<String> {
        let text = self.text(key)?;
        text.ok_or_else(|| self.missing(key, "a text"))
    }

    pub(super) fn choices(&mut self) -> Result<Option<Choices>> {
        const EXPECTED: &str = "a field, a template or a list of texts";
        let items = match self.take("doc_to_choice") {
            None => return Ok(None),
            Some(Value::String(source)) => return Ok(Some(Choices::Source(source))),
            Some(Value::Sequence(items)) if !items.is_empty() => items,
            Some(Value::Mapping(by_name)) if !by_name.is_empty() => by_name.into_values().collect(),
            Some(other) => return Err(self.mismatch("doc_to_choice", &other, EXPECTED)),
        };
        let texts = items.iter().map(|item| {
            let text = item.as_str().map(str::to_owned);
            text.ok_or_else(|| self.mismatch("doc_to_choice", item, EXPECTED))
        });
        Ok(Some(Choices::Fixed(texts.collect::<Result<_>>()?)))
    }

    pub(super) fn target(&mut self) -> Result<Option<TargetSetting>> {
        let expected = "a field, a template or an index";
        match self.take("doc_to_target") {
            None => Ok(None),
            Some(Value::String(source)) => Ok(Some(TargetSetting::Source(source))),
            Some(Value::Number(number)) if number.is_i64() => {
                Ok(Some(TargetSetting::Index(number.as_i64().unwrap_or_default())))
            }
            Some(other) => Err(self.mismatch("doc_to_target", &other, expected)),
        }
    }

    /// Refuses Python code anywhere in the settings.
    pub(super) fn refuse_functions(&self) -> Result<()> {
        for (key, value) in &self.settings {
            if let Some(tagged) = find_tag(value) {
                let key = key.as_str().unwrap_or_default();
                let reason = format!("it is {tagged}");
                let hint = "a task with Python code runs in lm-evaluation-harness only; where the code \
                            prepares documents, save the prepared ones as JSON and remove it";
                return Err(self.unsupported(key, &reason, hint));
            }
        }
        Ok(())
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<()> {
        match self.settings.keys().next() {
            None => Ok(()),
            Some(key) => {
                let name = key.as_str().map_or_else(|| describe(key), str::to_owned);
                let key = format!("{}{name}", self.prefix);
                Err(Error::UnknownSetting { path: self.path.into(), key })
            }
        }
    }

    pub(super) fn mismatch(&self, key: &str, found: &Value, expected: &'static str) -> Error {
        let key = format!("{}{key}", self.prefix);
        Error::Setting { path: self.path.into(), key, found: describe(found), expected }
    }

    pub(super) fn missing(&self, key: &str, expected: &'static str) -> Error {
        let key = format!("{}{key}", self.prefix);
        Error::Setting { path: self.path.into(), key, found: "missing".into(), expected }
    }

    pub(super) fn unsupported(&self, key: &str, reason: &str, hint: &'static str) -> Error {
        let key = format!("{}{key}", self.prefix);
        Error::Unsupported { path: self.path.into(), key, reason: reason.into(), hint }
    }
}

/// The first tagged value, such as `!function utils.process_docs`, as the file has it.
fn find_tag(value: &Value) -> Option<String> {
    match value {
        Value::Tagged(tagged) => {
            let value = tagged.value.as_str().unwrap_or_default();
            Some(format!("`{} {value}`", tagged.tag).replace(" `", "`"))
        }
        Value::Sequence(items) => items.iter().find_map(find_tag),
        Value::Mapping(settings) => settings.values().find_map(find_tag),
        _ => None,
    }
}
