//! text of a file ─► records, each read as what it is ─► rows

use std::path::Path;

use serde_json::{Map, Value};

use super::json_records::{list_records, records};
use super::read_options::{LoadedRows, ReadOptions};
use super::record_fields::{Fields, name_list, names};
use super::record_origin::RecordOrigin;
use crate::data::{FORMAT_HINT, Instruction};
use crate::error::{Error, Result};

use super::record_kind::{Shape, describe_unknown_record};
use super::table::{self, Table};
use super::{caption_record, conversation_record, instruction_record};

/// Reads the records of a file.
pub(super) struct Reader<'a> {
    pub path: &'a Path,
    pub options: &'a ReadOptions<'a>,
    pub found: LoadedRows,
}

impl Reader<'_> {
    pub fn json(&mut self, text: &str) -> Result<()> {
        let mut records = records(self.path, text)?;
        let is_list = text.trim_start().starts_with('[');
        match (records.next(), records.next()) {
            (Some(Ok((_, Value::Object(values)))), None)
                if !is_list && Shape::of(&values).is_none() && has_nested_values(&values) =>
            {
                let list = self.single_list(values)?;
                list_records(list).try_for_each(|record| self.record(record?, FORMAT_HINT))
            }
            (first, second) => {
                let all = first.into_iter().chain(second).chain(records);
                all.into_iter().try_for_each(|record| self.record(record?, FORMAT_HINT))
            }
        }
    }

    /// The list of objects that an object around it holds.
    fn single_list(&mut self, mut values: Map<String, Value>) -> Result<Vec<Value>> {
        let is_one = |value: &Value| {
            let list = value.as_array().filter(|list| !list.is_empty());
            list.is_some_and(|list| list.iter().all(Value::is_object))
        };
        let lists = values.iter().filter(|(_, value)| is_one(value));
        let lists = lists.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if let [name] = &lists[..]
            && let Some(Value::Array(list)) = values.get_mut(name).map(Value::take)
        {
            self.found.report.read_as(&format!("the list in {name}"));
            return Ok(list);
        }
        let count = if lists.is_empty() { "no list" } else { "more than one list" };
        Err(Error::UnknownFormat {
            path: self.path.into(),
            reason: format!("one JSON object with {}: {count} of rows", names(&values)),
            hint: Some("rows are a JSON list of objects, or one object a line"),
        })
    }

    pub fn table(&mut self, text: &str) -> Result<()> {
        let unknown = |reason: String, mend: Option<&'static str>| Error::UnknownFormat {
            path: self.path.into(),
            reason,
            hint: mend,
        };
        let is_row = |names: &[&str]| {
            let values = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            // What is asked alone is no row.
            matches!(Shape::of(&values), Some(Shape::Caption))
                || matches!(Shape::of(&values), Some(Shape::Flat))
                    && names.iter().any(|name| instruction_record::OUTPUT_FIELDS.contains(name))
        };
        let table = Table::of(self.path, text).filter(|table| table.is_one(self.path, &is_row));
        let Some(table) = table else {
            return Err(unknown("neither JSON nor a table of rows".into(), None));
        };
        if !is_row(&table.names()) {
            let reason = format!("a table with the columns {}", name_list(&table.names()));
            return Err(unknown(reason, Some(table::FORMAT_HINT)));
        }
        table.records(self.path).try_for_each(|record| self.record(record?, table::FORMAT_HINT))
    }

    fn record(&mut self, (place, value): (String, Value), form: &'static str) -> Result<()> {
        let Self { path, options, found } = self;
        let ReadOptions { image_folder: images, empty_outputs, .. } = **options;
        let mut origin = RecordOrigin { path, place, form, images };
        let Value::Object(values) = &value else {
            return Err(origin.error("expected an object"));
        };
        let shape = Shape::of(values);
        if let Some(Shape::Turns(_) | Shape::PromptCompletion) = shape {
            origin.form = conversation_record::FORMAT_HINT;
        }
        let mut fields = Fields::new(&origin, values, &mut found.report);
        let rows = match shape {
            Some(Shape::Turns(name)) => {
                conversation_record::rows(name, empty_outputs, &mut fields)?
            }
            Some(Shape::PromptCompletion) => {
                conversation_record::prompt_completion_rows(empty_outputs, &mut fields)?
            }
            Some(Shape::Flat) => instruction_record::rows(empty_outputs, &mut fields)?,
            Some(Shape::Caption) => caption_record::rows(&mut fields)?,
            None => return Err(origin.error(describe_unknown_record(values))),
        };
        fields.finish();
        found.rows.extend::<Vec<Instruction>>(rows);
        Ok(())
    }
}

/// Whether an object holds others.
fn has_nested_values(values: &Map<String, Value>) -> bool {
    values.values().any(|value| value.is_object() || value.is_array())
}
