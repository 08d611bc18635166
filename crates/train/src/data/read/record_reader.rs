//! The text of a file ─► records, each read by its kind ─► rows.

use std::path::Path;

use serde_json::{Map, Value};

use super::json_records::{json_records, list_records};
use super::read_options::{LoadedRows, ReadOptions};
use super::record_fields::{RecordFields, field_names, name_list};
use super::record_kind::{RecordKind, describe_unknown_record, turn_field};
use super::record_origin::RecordOrigin;
use super::table::{self, Table};
use super::{
    caption_record, conversation_record, instruction_record, preference_record, text_record,
};
use crate::data::FORMAT_HINT;
use crate::error::{Error, Result};

/// Reads the records of a file.
pub(super) struct RecordReader<'a> {
    pub path: &'a Path,
    pub options: &'a ReadOptions<'a>,
    pub loaded: LoadedRows,
}

impl RecordReader<'_> {
    pub fn read_json(&mut self, text: &str) -> Result<()> {
        let mut records = json_records(self.path, text)?;
        let is_list = text.trim_start().starts_with('[');
        match (records.next(), records.next()) {
            (Some(Ok((_, Value::Object(values)))), None)
                if !is_list
                    && RecordKind::detect(&values).is_none()
                    && has_nested_values(&values) =>
            {
                let list = self.single_list(values)?;
                list_records(list).try_for_each(|record| self.read_record(record?, FORMAT_HINT))
            }
            (first, second) => {
                let all = first.into_iter().chain(second).chain(records);
                all.into_iter().try_for_each(|record| self.read_record(record?, FORMAT_HINT))
            }
        }
    }

    /// The list of objects in an object that has only one such list.
    fn single_list(&mut self, mut values: Map<String, Value>) -> Result<Vec<Value>> {
        let is_row_list = |value: &Value| {
            let list = value.as_array().filter(|list| !list.is_empty());
            list.is_some_and(|list| list.iter().all(Value::is_object))
        };
        let lists = values.iter().filter(|(_, value)| is_row_list(value));
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
            reason: format!("one JSON object with {}: {count} of rows", field_names(&values)),
            hint: Some("rows are a JSON list of objects, or one object per line"),
        })
    }

    pub fn read_table(&mut self, text: &str) -> Result<()> {
        let unknown = |reason: String, hint: Option<&'static str>| Error::UnknownFormat {
            path: self.path.into(),
            reason,
            hint,
        };
        let is_row = |columns: &[&str]| {
            let values = columns.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            // A prompt column alone makes no rows.
            match RecordKind::detect(&values) {
                Some(RecordKind::Caption | RecordKind::Preference | RecordKind::Text) => true,
                Some(RecordKind::Instruction) => {
                    columns.iter().any(|name| instruction_record::OUTPUT_FIELDS.contains(name))
                }
                _ => false,
            }
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
        table
            .records(self.path)
            .try_for_each(|record| self.read_record(record?, table::FORMAT_HINT))
    }

    fn read_record(
        &mut self,
        (location, value): (String, Value),
        format_hint: &'static str,
    ) -> Result<()> {
        let Self { path, options, loaded } = self;
        let options: &ReadOptions = options;
        let image_folder = options.image_folder;
        let mut origin = RecordOrigin { path, location, format_hint, image_folder };
        let Value::Object(values) = &value else {
            return Err(origin.error("expected an object"));
        };
        let Some(kind) = RecordKind::detect(values) else {
            return Err(origin.error(describe_unknown_record(values)));
        };
        if kind.is_conversation() {
            origin.format_hint = conversation_record::FORMAT_HINT;
        }
        loaded.report.count_kind(kind);
        let mut fields = RecordFields::new(&origin, values, &mut loaded.report);
        let rows = match kind {
            RecordKind::Conversation => {
                let (name, _) = turn_field(values).expect("a conversation has a field with turns");
                conversation_record::conversation_rows(name, options, &mut fields)?
            }
            RecordKind::PromptCompletion => {
                conversation_record::prompt_completion_rows(options, &mut fields)?
            }
            RecordKind::Instruction => instruction_record::instruction_rows(options, &mut fields)?,
            RecordKind::Preference | RecordKind::PreferenceTurns => {
                preference_record::preference_rows(options, &mut fields)?
            }
            RecordKind::Caption => caption_record::caption_rows(&mut fields)?,
            RecordKind::Text => text_record::text_rows(&mut fields)?,
        };
        fields.report_unused();
        loaded.rows.extend(rows);
        Ok(())
    }
}

/// Whether an object contains objects or lists.
fn has_nested_values(values: &Map<String, Value>) -> bool {
    values.values().any(|value| value.is_object() || value.is_array())
}
