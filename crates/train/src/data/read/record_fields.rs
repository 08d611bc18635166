//! The fields of a record, with a record of which ones were used.

use std::borrow::Cow;

use ::data::names::field_names;
use serde_json::{Map, Value};

use super::record_origin::RecordOrigin;
use super::row_report::{DropReason, RowAdjustment, RowReport};
use crate::error::Result;

/// The fields of a record.
pub(crate) struct RecordFields<'a> {
    /// Where the record comes from.
    pub origin: &'a RecordOrigin<'a>,
    values: &'a Map<String, Value>,
    used: Vec<&'a str>,
    report: &'a mut RowReport,
}

impl<'a> RecordFields<'a> {
    /// The fields of an object, none of them used yet.
    pub fn new(
        origin: &'a RecordOrigin<'a>,
        values: &'a Map<String, Value>,
        report: &'a mut RowReport,
    ) -> Self {
        Self { origin, values, used: Vec::new(), report }
    }

    /// The first of some names whose value is not null.
    pub fn first_present(&self, names: &[&'static str]) -> Option<&'static str> {
        first_present(self.values, names)
    }

    /// As [`first_present`](Self::first_present), otherwise the first name whose value is null.
    pub fn first_declared(&self, names: &[&'static str]) -> Option<&'static str> {
        let is_declared = |name: &&str| self.values.contains_key(*name);
        self.first_present(names).or_else(|| names.iter().copied().find(is_declared))
    }

    /// A field of any type; `None` if it is absent or null.
    pub fn value(&mut self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.values.get_key_value(name)?;
        self.used.push(name);
        (!value.is_null()).then_some(value)
    }

    /// A string; a number or boolean becomes its JSON text.
    pub fn string(&mut self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value_to_text(value, self.origin, self.report);
        text.map(Some)
            .ok_or_else(|| self.origin.error(format!("`{name}` is {}", json_type_name(value))))
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let type_error = || self.origin.error(format!("`{name}` is not a list of texts"));
        let list = value.as_array().ok_or_else(type_error)?;
        let text = |value| Some(value_to_text(value, self.origin, self.report)?.into_owned());
        list.iter().map(text).collect::<Option<_>>().ok_or_else(type_error)
    }

    /// The image: `image`, or the only element of `images`.
    pub fn image(&mut self) -> Result<Option<String>> {
        let image = self.value("image");
        let images = match self.value("images") {
            None => &[],
            Some(Value::Array(list)) => &list[..],
            Some(single) => std::slice::from_ref(single),
        };
        let value = match (image, images) {
            (None, []) => return Ok(None),
            (Some(single), []) | (None, [single]) => single,
            _ => {
                let count = images.len() + usize::from(image.is_some());
                let reason = format!("{count} images, but a row can have one");
                return Err(self.origin.error(reason));
            }
        };
        let name = if image.is_some() { "image" } else { "images" };
        match value {
            Value::String(text) => self.origin.resolve_image(text).map(Some),
            _ => Err(self.origin.error(format!("`{name}` is not a text"))),
        }
    }

    /// Counts an adjustment in this record.
    pub fn count_adjustment(&mut self, adjustment: RowAdjustment) {
        self.report.count_adjustment(adjustment, &self.origin.location);
    }

    /// Counts a dropped row of this record.
    pub fn drop_row(&mut self, reason: DropReason) {
        self.report.drop_row(reason, &self.origin.location);
    }

    /// Counts a field that was read under another name.
    pub fn count_alias(&mut self, alias: &str) {
        self.report.count_alias(alias);
    }

    /// The report, for objects inside this record.
    pub fn report(&mut self) -> &mut RowReport {
        self.report
    }

    /// Counts the fields that have a value and were not used.
    pub fn report_unused(self) {
        for (name, value) in self.values {
            if !self.used.contains(&name.as_str()) && !is_blank(value) {
                self.report.count_unused_field(name);
            }
        }
    }

    /// The names of all fields, for messages.
    pub fn field_names(&self) -> String {
        field_names(self.values)
    }
}

/// The first of some fields of an object that is not null.
pub(crate) fn first_present(
    values: &Map<String, Value>,
    names: &[&'static str],
) -> Option<&'static str> {
    let has = |name: &&str| values.get(*name).is_some_and(|value| !value.is_null());
    names.iter().copied().find(has)
}

/// The text of a string, or the JSON text of a number or boolean.
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

/// The type of a value, for messages.
pub(crate) fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list, not a text",
        Value::Object(_) => "an object, not a text",
    }
}

/// Whether a value has no content.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
