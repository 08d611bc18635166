//! The fields of a record, which remember which of them were asked for.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::record_origin::RecordOrigin;
use super::row_report::{DropReason, RowAdjustment, RowReport};
use crate::error::Result;

/// The fields of a record, read one by one.
pub(crate) struct RecordFields<'a> {
    /// Where the record is from.
    pub origin: &'a RecordOrigin<'a>,
    values: &'a Map<String, Value>,
    used: Vec<&'a str>,
    report: &'a mut RowReport,
}

impl<'a> RecordFields<'a> {
    /// The fields of an object.
    pub fn new(
        origin: &'a RecordOrigin<'a>,
        values: &'a Map<String, Value>,
        report: &'a mut RowReport,
    ) -> Self {
        Self { origin, values, used: Vec::new(), report }
    }

    /// The first of some names that has a value. Some data sets write null for none.
    pub fn first_present(&self, names: &[&'static str]) -> Option<&'static str> {
        first_present(self.values, names)
    }

    /// As [`first_present`](Self::first_present), or else the first that is there with null.
    pub fn first_declared(&self, names: &[&'static str]) -> Option<&'static str> {
        let is_there = |name: &&str| self.values.contains_key(*name);
        self.first_present(names).or_else(|| names.iter().copied().find(is_there))
    }

    /// A field, of whatever kind.
    pub fn value(&mut self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.values.get_key_value(name)?;
        self.used.push(name);
        (!value.is_null()).then_some(value)
    }

    /// A text; a number or a truth value is taken as its JSON text.
    pub fn string(&mut self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let found = value_to_text(value, self.origin, self.report);
        found
            .map(Some)
            .ok_or_else(|| self.origin.error(format!("`{name}` is {}", json_type_name(value))))
    }

    /// A list of texts.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let bad = || self.origin.error(format!("`{name}` is not a list of texts"));
        let list = value.as_array().ok_or_else(bad)?;
        let text = |value| Some(value_to_text(value, self.origin, self.report)?.into_owned());
        list.iter().map(text).collect::<Option<_>>().ok_or_else(bad)
    }

    /// The picture: `image`, or the only one of `images`.
    pub fn image(&mut self) -> Result<Option<String>> {
        let alone = self.value("image");
        let list = match self.value("images") {
            None => &[],
            Some(Value::Array(list)) => &list[..],
            Some(one) => std::slice::from_ref(one),
        };
        let found = match (alone, list) {
            (None, []) => return Ok(None),
            (Some(one), []) | (None, [one]) => one,
            _ => {
                let count = list.len() + usize::from(alone.is_some());
                let reason = format!("{count} images, of which a row can have one");
                return Err(self.origin.error(reason));
            }
        };
        let name = if alone.is_some() { "image" } else { "images" };
        match found {
            Value::String(text) => self.origin.resolve_image(text).map(Some),
            _ => Err(self.origin.error(format!("`{name}` is not a text"))),
        }
    }

    /// Notes a change in this record.
    pub fn count_adjustment(&mut self, change: RowAdjustment) {
        self.report.count_adjustment(change, &self.origin.location);
    }

    /// Notes that a row of this record is left out.
    pub fn drop_row(&mut self, reason: DropReason) {
        self.report.drop_row(reason, &self.origin.location);
    }

    /// Notes that a field was read under another name.
    pub fn count_alias(&mut self, what: &str) {
        self.report.count_alias(what);
    }

    /// The report, for records inside this one.
    pub fn report(&mut self) -> &mut RowReport {
        self.report
    }

    /// Counts the fields that hold something and were not asked for.
    pub fn report_unused(self) {
        for (name, value) in self.values {
            if !self.used.contains(&name.as_str()) && !is_blank(value) {
                self.report.count_unused_field(name);
            }
        }
    }

    /// The names of all fields, for messages.
    pub fn field_names(&self) -> String {
        names(self.values)
    }
}

/// The names of all fields of an object, for messages.
pub(crate) fn names(values: &Map<String, Value>) -> String {
    name_list(&values.keys().map(String::as_str).collect::<Vec<_>>())
}

/// Names from a file, for messages. There may be as many as it has bytes.
pub(crate) fn name_list(names: &[&str]) -> String {
    /// Names that a message has, and letters of each.
    const MAX_SHOWN: (usize, usize) = (8, 40);
    let told = names.iter().take(MAX_SHOWN.0).map(|name| {
        format!("`{}`", name.chars().take(MAX_SHOWN.1).collect::<String>().escape_debug())
    });
    let more = if names.len() > MAX_SHOWN.0 { ", ..." } else { "" };
    told.collect::<Vec<_>>().join(", ") + more
}

/// The first of some fields of an object that is not null.
pub(crate) fn first_present(
    values: &Map<String, Value>,
    names: &[&'static str],
) -> Option<&'static str> {
    let has = |name: &&str| values.get(*name).is_some_and(|value| !value.is_null());
    names.iter().copied().find(has)
}

/// The text that a value is or stands for.
pub(crate) fn value_to_text<'a>(
    value: &'a Value,
    origin: &RecordOrigin,
    report: &mut RowReport,
) -> Option<Cow<'a, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(_) | Value::Bool(_) => {
            report.count_adjustment(RowAdjustment::NumberAsText, &origin.location);
            Some(value.to_string().into())
        }
        _ => None,
    }
}

/// What a value is, for messages.
pub(crate) fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list, not a text",
        Value::Object(_) => "an object, not a text",
    }
}

/// Whether a value holds nothing that could be used.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
