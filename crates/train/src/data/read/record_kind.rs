//! The names of a record's fields ─► what kind of row it is.

use serde_json::{Map, Value};

use super::record_fields::{first_present, names};

use super::{caption_record, conversation_record, instruction_record};

/// What a record is.
pub(super) enum RecordKind {
    /// Turns in the field of this name.
    Conversation(&'static str),
    /// Prompt and completion are turns.
    PromptCompletion,
    Instruction,
    Caption,
}

impl RecordKind {
    /// The shape that an object's fields make.
    pub fn detect(values: &Map<String, Value>) -> Option<Self> {
        let holds = |name: &&str| {
            let list = values.get(*name).and_then(Value::as_array);
            list.is_some_and(|list| !list.is_empty())
        };
        if let Some(name) = conversation_record::TURN_FIELDS.into_iter().find(holds) {
            return Some(Self::Conversation(name));
        }
        let is_list = |name: &str| values.get(name).is_some_and(Value::is_array);
        if is_list("prompt") && is_list("completion") {
            return Some(Self::PromptCompletion);
        }
        let has = |names: &[&str]| names.iter().any(|name| values.contains_key(*name));
        let asks = has(&instruction_record::PROMPT_FIELDS);
        if (asks || has(&instruction_record::INPUT_FIELDS))
            && has(&instruction_record::OUTPUT_FIELDS)
        {
            return Some(Self::Instruction);
        }
        if has(&[caption_record::CAPTION_FIELD]) && has(&caption_record::IMAGE_FIELDS) {
            return Some(Self::Caption);
        }
        if asks {
            return Some(Self::Instruction);
        }
        // What is wrong with it is told where turns are read.
        first_present(values, &conversation_record::TURN_FIELDS).map(Self::Conversation)
    }
}

/// What is wrong with a record that is of no known shape.
pub(super) fn describe_unknown_record(values: &Map<String, Value>) -> String {
    if values.is_empty() {
        return "the record has no fields".into();
    }
    let names = names(values);
    if let Some(Value::String(_)) = values.get("text") {
        return format!(
            "the record has {names}: a `text` alone does not tell where the answer begins; put \
             what is asked into `instruction` and the answer into `output`"
        );
    }
    if values.keys().any(|name| instruction_record::OUTPUT_FIELDS.contains(&name.as_str())) {
        return format!("`instruction` is missing; the record has {names}");
    }
    format!("no field is known of {names}: rename them to `instruction` and `output`")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_options::ReadOptions;
    use crate::data::read::parse_rows;

    #[test]
    fn a_non_list_conversation_field_is_ignored_if_other_fields_make_a_row() {
        let read = |text: &str| {
            parse_rows(Path::new("a.jsonl"), text, &ReadOptions::default()).map(|found| found.rows)
        };
        for id in ["7", "\"c7\"", "[]"] {
            let row = format!(r#"{{"conversation": {id}, "instruction": "a", "output": "b"}}"#);
            assert_eq!(read(&row).unwrap()[0].instruction, "a", "{row}");
        }
        let turns = r#"[{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]"#;
        let record = format!(r#"{{"conversations": 7, "messages": {turns}, "prompt": "p"}}"#);
        assert_eq!(read(&record).unwrap()[0].instruction, "a");
        for (value, told) in [("7", "`messages` is not a list"), ("[]", "`messages` is empty")] {
            let error = read(&format!(r#"{{"messages": {value}}}"#)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_unknown_record_gets_a_hint_which_fields_to_rename() {
        let message = |text: &str| {
            let found = parse_rows(Path::new("a.jsonl"), text, &ReadOptions::default());
            found.unwrap_err().to_string()
        };
        let text = message(r#"{"text": "a b"}"#);
        assert!(text.contains("line 1: the record has `text`: a `text` alone"), "{text}");
        let preference = message(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#);
        let told = "`output` is missing; the record has `prompt`, `chosen`, `rejected`";
        assert!(preference.contains(told), "{preference}");
        assert!(message(r#"{"answer": "a"}"#).contains("`instruction` is missing"));
        let other = message(r#"{"title": "a"}"#);
        assert!(other.contains("no field is known of `title`: rename them"), "{other}");
        assert!(message("{}").contains("the record has no fields"));
    }
}
