//! The field names of a record ─► the kind of record.

use ::data::names::field_names;
use serde_json::{Map, Value};

use super::record_fields::first_present;
use super::{caption_record, conversation_record, instruction_record};

/// The kind of a record.
pub(super) enum RecordKind {
    /// A list of turns in the field of this name.
    Conversation(&'static str),
    /// `prompt` and `completion` are lists of turns.
    PromptCompletion,
    Instruction,
    Caption,
}

impl RecordKind {
    /// The kind that an object's fields imply.
    pub fn detect(values: &Map<String, Value>) -> Option<Self> {
        let has_turns = |name: &&str| {
            let list = values.get(*name).and_then(Value::as_array);
            list.is_some_and(|list| !list.is_empty())
        };
        if let Some(name) = conversation_record::TURN_FIELDS.into_iter().find(has_turns) {
            return Some(Self::Conversation(name));
        }
        let is_list = |name: &str| values.get(name).is_some_and(Value::is_array);
        if is_list("prompt") && is_list("completion") {
            return Some(Self::PromptCompletion);
        }
        let has = |names: &[&str]| names.iter().any(|name| values.contains_key(*name));
        let has_prompt = has(&instruction_record::PROMPT_FIELDS);
        if (has_prompt || has(&instruction_record::INPUT_FIELDS))
            && has(&instruction_record::OUTPUT_FIELDS)
        {
            return Some(Self::Instruction);
        }
        if has(&[caption_record::CAPTION_FIELD]) && has(&caption_record::IMAGE_FIELDS) {
            return Some(Self::Caption);
        }
        if has_prompt {
            return Some(Self::Instruction);
        }
        // A turn field that is no list of turns: reading it gives the error.
        first_present(values, &conversation_record::TURN_FIELDS).map(Self::Conversation)
    }
}

/// Why a record has no known kind.
pub(super) fn describe_unknown_record(values: &Map<String, Value>) -> String {
    if values.is_empty() {
        return "the record has no fields".into();
    }
    let names = field_names(values);
    if let Some(Value::String(_)) = values.get("text") {
        return format!(
            "the record has {names}: a `text` alone does not show where the response begins; put \
             the prompt into `instruction` and the response into `output`"
        );
    }
    if values.keys().any(|name| instruction_record::OUTPUT_FIELDS.contains(&name.as_str())) {
        return format!("`instruction` is missing; the record has {names}");
    }
    format!("unknown fields {names}: rename them to `instruction` and `output`")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_options::ReadOptions;
    use crate::data::read::parse_rows;

    #[test]
    fn a_non_list_conversation_field_is_ignored_if_other_fields_make_a_row() {
        let read = |text: &str| {
            parse_rows(Path::new("a.jsonl"), text, &ReadOptions::default())
                .map(|loaded| loaded.rows)
        };
        for id in ["7", "\"c7\"", "[]"] {
            let row = format!(r#"{{"conversation": {id}, "instruction": "a", "output": "b"}}"#);
            assert_eq!(read(&row).unwrap()[0].instruction, "a", "{row}");
        }
        let turns = r#"[{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]"#;
        let record = format!(r#"{{"conversations": 7, "messages": {turns}, "prompt": "p"}}"#);
        assert_eq!(read(&record).unwrap()[0].instruction, "a");
        for (value, expected) in [("7", "`messages` is not a list"), ("[]", "`messages` is empty")]
        {
            let error = read(&format!(r#"{{"messages": {value}}}"#)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_record_gets_a_hint_which_fields_to_rename() {
        let message = |text: &str| {
            let loaded = parse_rows(Path::new("a.jsonl"), text, &ReadOptions::default());
            loaded.unwrap_err().to_string()
        };
        let text = message(r#"{"text": "a b"}"#);
        assert!(text.contains("line 1: the record has `text`: a `text` alone"), "{text}");
        let preference = message(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#);
        let expected = "`output` is missing; the record has `prompt`, `chosen`, `rejected`";
        assert!(preference.contains(expected), "{preference}");
        assert!(message(r#"{"answer": "a"}"#).contains("`instruction` is missing"));
        let other = message(r#"{"title": "a"}"#);
        assert!(other.contains("unknown fields `title`: rename them"), "{other}");
        assert!(message("{}").contains("the record has no fields"));
    }
}
