//! text of a file ─► records, each read as what it is ─► rows

use std::path::Path;

use serde_json::{Map, Value};

use super::json_records::{json_records, list_records};
use super::read_options::{LoadedRows, ReadOptions};
use super::record_fields::{RecordFields, name_list, names};
use super::record_origin::RecordOrigin;
use crate::data::{FORMAT_HINT, Instruction};
use crate::error::{Error, Result};

use super::record_kind::{RecordKind, describe_unknown_record};
use super::table::{self, Table};
use super::{caption_record, conversation_record, instruction_record};

/// Reads the records of a file.
pub(super) struct RecordReader<'a> {
    pub path: &'a Path,
    pub options: &'a ReadOptions<'a>,
    pub loaded: LoadedRows,
}

impl RecordReader<'_> {
    pub fn json(&mut self, text: &str) -> Result<()> {
        let mut records = json_records(self.path, text)?;
        let is_list = text.trim_start().starts_with('[');
        match (records.next(), records.next()) {
            (Some(Ok((_, Value::Object(values)))), None)
                if !is_list
                    && RecordKind::detect(&values).is_none()
                    && has_nested_values(&values) =>
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
            self.loaded.report.count_alias(&format!("the list in {name}"));
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
            matches!(RecordKind::detect(&values), Some(RecordKind::Caption))
                || matches!(RecordKind::detect(&values), Some(RecordKind::Instruction))
                    && names.iter().any(|name| instruction_record::OUTPUT_FIELDS.contains(name))
        };
        let table =
            Table::parse(self.path, text).filter(|table| table.is_data_table(self.path, &is_row));
        let Some(table) = table else {
            return Err(unknown("neither JSON nor a table of rows".into(), None));
        };
        if !is_row(&table.columns()) {
            let reason = format!("a table with the columns {}", name_list(&table.columns()));
            return Err(unknown(reason, Some(table::FORMAT_HINT)));
        }
        table.records(self.path).try_for_each(|record| self.record(record?, table::FORMAT_HINT))
    }

    fn record(&mut self, (place, value): (String, Value), form: &'static str) -> Result<()> {
        let Self { path, options, loaded: found } = self;
        let ReadOptions { image_folder: images, empty_outputs, .. } = **options;
        let mut origin =
            RecordOrigin { path, location: place, format_hint: form, image_folder: images };
        let Value::Object(values) = &value else {
            return Err(origin.error("expected an object"));
        };
        let shape = RecordKind::detect(values);
        if let Some(RecordKind::Conversation(_) | RecordKind::PromptCompletion) = shape {
            origin.format_hint = conversation_record::FORMAT_HINT;
        }
        let mut fields = RecordFields::new(&origin, values, &mut found.report);
        let rows = match shape {
            Some(RecordKind::Conversation(name)) => {
                conversation_record::conversation_rows(name, empty_outputs, &mut fields)?
            }
            Some(RecordKind::PromptCompletion) => {
                conversation_record::prompt_completion_rows(empty_outputs, &mut fields)?
            }
            Some(RecordKind::Instruction) => {
                instruction_record::instruction_rows(empty_outputs, &mut fields)?
            }
            Some(RecordKind::Caption) => caption_record::caption_rows(&mut fields)?,
            None => return Err(origin.error(describe_unknown_record(values))),
        };
        fields.report_unused();
        found.rows.extend::<Vec<Instruction>>(rows);
        Ok(())
    }
}

/// Whether an object holds others.
fn has_nested_values(values: &Map<String, Value>) -> bool {
    values.values().any(|value| value.is_object() || value.is_array())
}
