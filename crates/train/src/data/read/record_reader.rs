//! Records of a file, each read by its kind ─► rows.

use std::path::Path;

use ::data::{Opened, Record, Schema};
use serde_json::{Map, Value};

use super::read_options::ReadOptions;
use super::record_fields::RecordFields;
use super::record_kind::{RecordKind, describe_unknown_record, turn_field};
use super::record_origin::RecordOrigin;
use super::row_report::{DropReason, RowReport};
use super::{
    caption_record, conversation_record, instruction_record, preference_record, text_record,
};
use crate::data::{FORMAT_HINT, Instruction};
use crate::error::{Error, Result};

/// The format of a table, for hints.
const TABLE_HINT: &str = "a table has a header with `instruction`, `input` and \
    `output`, or with `url` (or `image`, or `path`) and `caption`, separated by commas or tabs; put \
    a text that contains a separator in quotes";

/// Tells what makes rows.
pub(super) struct RowSchema;

impl Schema for RowSchema {
    fn is_record(&self, values: &Map<String, Value>) -> bool {
        RecordKind::detect(values).is_some()
    }

    fn has_columns(&self, names: &[&str]) -> bool {
        let values = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        // A prompt column alone makes no rows.
        match RecordKind::detect(&values) {
            Some(RecordKind::Caption | RecordKind::Preference | RecordKind::Text) => true,
            Some(RecordKind::Instruction) => {
                names.iter().any(|name| instruction_record::OUTPUT_FIELDS.contains(name))
            }
            _ => false,
        }
    }

    fn record_hint(&self) -> &'static str {
        FORMAT_HINT
    }

    fn table_hint(&self) -> &'static str {
        TABLE_HINT
    }
}

/// Reads the records of a file.
pub(super) struct RecordReader<'a> {
    pub path: &'a Path,
    pub options: &'a ReadOptions<'a>,
    pub report: &'a mut RowReport,
    /// Receives the rows.
    pub rows: &'a mut dyn FnMut(Instruction) -> Result<()>,
}

impl RecordReader<'_> {
    /// Reads all records, one at a time.
    pub fn read(&mut self, opened: Opened) -> Result<()> {
        if let Some(list) = &opened.list {
            self.report.count_alias(&format!("the list in {list}"));
        }
        for record in opened.records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.reject(error, None)?;
                    continue;
                }
            };
            match self.read_record(&record, opened.format_hint) {
                Ok(rows) => rows.into_iter().try_for_each(&mut *self.rows)?,
                Err(Error::Data(error)) => self.reject(error, Some(&record.value))?,
                Err(Error::RemoteImage { path, location, url })
                    if self.options.rejects.is_some() =>
                {
                    let error = ::data::Error::Record {
                        path,
                        location,
                        reason: format!("the image {url} is not a local file"),
                        format_hint: opened.format_hint,
                        text: None,
                    };
                    self.reject(error, Some(&record.value))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sets an invalid record aside, or returns its error.
    fn reject(&mut self, error: ::data::Error, value: Option<&Value>) -> Result<()> {
        let Some(rejects) = self.options.rejects else { return Err(error.into()) };
        let location = match &error {
            ::data::Error::Record { location, .. } => location.clone(),
            _ => String::new(),
        };
        rejects.reject(error, value)?;
        self.report.drop_row(DropReason::InvalidRecord, &location);
        Ok(())
    }

    fn read_record(
        &mut self,
        record: &Record,
        format_hint: &'static str,
    ) -> Result<Vec<Instruction>> {
        let Self { path, options, report, .. } = self;
        let options: &ReadOptions = options;
        let image_folder = options.image_folder;
        let location = record.location.to_string();
        let mut origin = RecordOrigin { path, location, format_hint, image_folder };
        let Value::Object(values) = &record.value else {
            return Err(origin.error("expected an object"));
        };
        let Some(kind) = RecordKind::detect(values) else {
            return Err(origin.error(describe_unknown_record(values)));
        };
        if kind.is_conversation() {
            origin.format_hint = conversation_record::FORMAT_HINT;
        }
        report.count_kind(kind);
        let mut fields = RecordFields::new(&origin, values, report);
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
        Ok(rows)
    }
}
