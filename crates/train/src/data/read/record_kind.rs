//! The field names of a record ─► the kind of record.

use ::data::names::field_names;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::record_fields::first_present;
use super::{
    caption_record, conversation_record, instruction_record, preference_record, text_record,
};

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordKind {
    /// A prompt and its response in separate fields.
    Instruction,
    /// A list of turns.
    Conversation,
    /// `prompt` and `completion` are lists of turns.
    PromptCompletion,
    /// A chosen and a rejected answer.
    Preference,
    /// `chosen` and `rejected` are lists of turns.
    PreferenceTurns,
    /// An image and its caption.
    Caption,
    /// Plain text.
    Text,
}

impl RecordKind {
    /// The kind that an object's fields imply.
    pub(super) fn detect(values: &Map<String, Value>) -> Option<Self> {
        if turn_field(values).is_some_and(|(_name, has_turns)| has_turns) {
            return Some(Self::Conversation);
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
        let has_pair = has(&[preference_record::CHOSEN_FIELD]) && has(&["rejected"]);
        if has_pair || has_prompt && has(&[preference_record::CHOSEN_FIELD]) {
            let is_turns = is_list(preference_record::CHOSEN_FIELD) || is_list("prompt");
            return Some(if is_turns { Self::PreferenceTurns } else { Self::Preference });
        }
        if has(&[caption_record::CAPTION_FIELD]) && has(&caption_record::IMAGE_FIELDS) {
            return Some(Self::Caption);
        }
        if has_prompt {
            return Some(Self::Instruction);
        }
        // A turn field that is no list of turns: reading it gives the error.
        if turn_field(values).is_some() {
            return Some(Self::Conversation);
        }
        let is_text = |value: &Value| value.is_string() || value.is_null();
        values.get(text_record::TEXT_FIELD).is_some_and(is_text).then_some(Self::Text)
    }

    /// Whether such a record is a list of turns.
    pub fn is_conversation(self) -> bool {
        matches!(self, Self::Conversation | Self::PromptCompletion | Self::PreferenceTurns)
    }

    /// The kind's name in messages.
    pub(super) fn description(self, count: usize) -> &'static str {
        let (singular, plural) = match self {
            Self::Instruction => ("instruction", "instructions"),
            Self::Conversation => ("conversation", "conversations"),
            Self::PromptCompletion => {
                ("conversation with a completion", "conversations with completions")
            }
            Self::Preference | Self::PreferenceTurns => ("preference pair", "preference pairs"),
            Self::Caption => ("caption", "captions"),
            Self::Text => ("plain text", "plain texts"),
        };
        if count == 1 { singular } else { plural }
    }
}

/// The field with the turns of a conversation, and whether it is a list with turns. The first such field
/// is preferred over one that is present.
pub(super) fn turn_field(values: &Map<String, Value>) -> Option<(&'static str, bool)> {
    let has_turns = |name: &&str| {
        let list = values.get(*name).and_then(Value::as_array);
        list.is_some_and(|list| !list.is_empty())
    };
    let names = conversation_record::TURN_FIELDS;
    let with_turns = names.into_iter().find(has_turns).map(|name| (name, true));
    with_turns.or_else(|| first_present(values, &names).map(|name| (name, false)))
}

/// Why a record has no known kind.
pub(super) fn describe_unknown_record(values: &Map<String, Value>) -> String {
    if values.is_empty() {
        return "the record has no fields".into();
    }
    let names = field_names(values);
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
        let text = message(r#"{"text": 7}"#);
        assert!(text.contains("line 1: unknown fields `text`: rename them"), "{text}");
        let prompt = message(r#"{"prompt": "a", "rejected": "c"}"#);
        let expected = "`output` is missing; the record has `prompt`, `rejected`";
        assert!(prompt.contains(expected), "{prompt}");
        assert!(message(r#"{"answer": "a"}"#).contains("`instruction` is missing"));
        let other = message(r#"{"title": "a"}"#);
        assert!(other.contains("unknown fields `title`: rename them"), "{other}");
        assert!(message("{}").contains("the record has no fields"));
    }
}
