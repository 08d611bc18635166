//! Conversations in the format of LLaVA, ShareGPT or OpenAI ─► turns.
//!
//! ```text
//! {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}], "system": "..."}
//! {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
//! ```

use serde_json::Value;

use super::conversation_turn::read_turn;
use super::read_options::ReadOptions;
use super::record_fields::RecordFields;
use super::turn::{Role, Turn};
use super::turns::{self, SharedFields};
use crate::data::Instruction;
use crate::error::Result;

/// The format of a conversation, for hints.
pub(super) const FORMAT_HINT: &str = "a conversation is {\"image\": \"...\", \"conversations\": \
    [{\"from\": \"human\", \"value\": \"...\"}, {\"from\": \"gpt\", \"value\": \"...\"}]}, or has \
    `messages` with `role` and `content`; `image` is optional";

/// Names of the field with the turns; the first that is present is used.
pub(super) const TURN_FIELDS: [&str; 3] = ["conversations", "messages", "conversation"];
/// Names of the system prompt field.
pub(super) const SYSTEM_FIELDS: [&str; 2] = ["system", "system_prompt"];

/// The rows of a record whose field `name` holds turns.
///
/// Sources: LLaVA,
/// <https://github.com/haotian-liu/LLaVA/blob/9ad726577ceabb54fc641d75e139aa5a266147d1/docs/Finetune_Custom_Data.md>;
/// ShareGPT's role names as LLaMA-Factory and axolotl read them; OpenAI's chat format.
pub(super) fn conversation_rows(
    name: &'static str,
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let shared = shared_fields(fields)?;
    let mut turns = system_turn(fields)?;
    turns.extend(read_turns(name, &shared, fields)?);
    turns::rows_from_turns(turns, &shared, options, fields)
}

/// The rows of a record whose `prompt` and `completion` are lists of messages; the messages of the
/// prompt are not trained on.
///
/// Source: TRL's conversational prompt-completion format.
pub(super) fn prompt_completion_rows(
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let shared = shared_fields(fields)?;
    let mut turns = system_turn(fields)?;
    let prompt = read_turns("prompt", &shared, fields)?;
    turns.extend(prompt.into_iter().map(|turn| Turn { train: false, ..turn }));
    turns.extend(read_turns("completion", &shared, fields)?);
    turns::rows_from_turns(turns, &shared, options, fields)
}

/// The system prompt of a record as a turn.
pub(super) fn system_turn(fields: &mut RecordFields) -> Result<Vec<Turn>> {
    let Some(name) = fields.first_present(&SYSTEM_FIELDS) else { return Ok(Vec::new()) };
    let text = fields.string(name)?;
    Ok(text.into_iter().map(|text| Turn::new(Role::System, text)).collect())
}

pub(super) fn shared_fields(fields: &mut RecordFields) -> Result<SharedFields> {
    Ok(SharedFields { image: fields.image()?, tags: Vec::new() })
}

/// The turns of the list in a field.
pub(super) fn read_turns(
    name: &'static str,
    shared: &SharedFields,
    fields: &mut RecordFields,
) -> Result<Vec<Turn>> {
    let Some(Value::Array(list)) = fields.value(name) else {
        return Err(fields.origin.error(format!("`{name}` is not a list")));
    };
    if list.is_empty() {
        return Err(fields.origin.error(format!("`{name}` is empty")));
    }
    let has_image = shared.image.is_some();
    let turns = list.iter().enumerate();
    turns.map(|(i, value)| read_turn(value, i + 1, name, has_image, fields)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diagnostic::Diagnostic;
    use serde_json::json;

    use super::super::record_origin::RecordOrigin;
    use super::super::row_report::{DropReason, RowAdjustment, RowReport};
    use super::*;

    fn read_with_report(record: &str) -> Result<(Vec<Instruction>, RowReport)> {
        let Value::Object(values) = serde_json::from_str(record).unwrap() else { unreachable!() };
        let location = "record 3".to_string();
        let origin = RecordOrigin {
            path: Path::new("chat.json"),
            location,
            format_hint: FORMAT_HINT,
            image_folder: None,
        };
        let mut report = RowReport::default();
        let mut fields = RecordFields::new(&origin, &values, &mut report);
        let name = fields.first_present(&TURN_FIELDS).unwrap();
        let rows = conversation_rows(name, &ReadOptions::default(), &mut fields)?;
        fields.report_unused();
        Ok((rows, report))
    }

    fn read(record: &str) -> Result<Vec<Instruction>> {
        read_with_report(record).map(|(rows, _report)| rows)
    }

    fn message_json(from: &str, value: &str) -> String {
        json!({"from": from, "value": value}).to_string()
    }

    #[test]
    fn each_response_becomes_a_row_with_its_history() {
        let turns = [
            message_json("human", "<image>\nWhat is it?"),
            message_json("gpt", "A cat."),
            message_json("human", "Which color?"),
            message_json("gpt", "Grey."),
            message_json("human", "And how old?"),
            message_json("gpt", "Two."),
        ];
        let record = format!(r#"{{"image":"a.png","conversations":[{}]}}"#, turns.join(","));
        let rows = read(&record).unwrap();
        let short =
            |row: &Instruction| (row.instruction.clone(), row.input.clone(), row.output.clone());
        let expected = [
            ("What is it?", "", "A cat."),
            ("Which color?", "Human: What is it?\nAssistant: A cat.", "Grey."),
            (
                "And how old?",
                "Human: What is it?\nAssistant: A cat.\nHuman: Which color?\nAssistant: Grey.",
                "Two.",
            ),
        ];
        for (row, (instruction, input, output)) in rows.iter().zip(expected) {
            assert_eq!(short(row), (instruction.into(), input.into(), output.into()));
            assert_eq!(row.image.as_deref(), Some("a.png"));
        }
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn openai_messages_and_sharegpt_turns_give_the_same_rows() {
        let messages = json!({"messages": [
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"}]});
        let turns = json!({"system": "Be kind.", "conversations": [
            {"from": "user", "value": "hi"}, {"from": "assistant", "value": "ho"}]});
        let expected = [Instruction::new("hi", "System: Be kind.", "ho")];
        assert_eq!(read(&messages.to_string()).unwrap(), expected);
        assert_eq!(read(&turns.to_string()).unwrap(), expected);
    }

    #[test]
    fn a_zero_weight_response_is_history_but_not_a_target() {
        for weight in [json!({"weight": 0}), json!({"train": false})] {
            let mut first = json!({"role": "assistant", "content": "b"});
            first.as_object_mut().unwrap().extend(weight.as_object().unwrap().clone());
            let record = json!({"messages": [
                {"role": "user", "content": "a"}, first,
                {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]});
            let expected = [Instruction::new("c", "Human: a\nAssistant: b", "d")];
            assert_eq!(read(&record.to_string()).unwrap(), expected);
        }
        let half = json!({"messages": [{"role": "user", "content": "a", "weight": 0.5}]});
        let error = read(&half.to_string()).unwrap_err().to_string();
        assert!(
            error.ends_with("turn 1: `weight` is 0.5, expected 0, 1, true or false"),
            "{error}"
        );
    }

    #[test]
    fn text_parts_are_joined_and_other_parts_rejected() {
        let record = |part: Value| {
            let content = json!([{"type": "text", "text": "a"}, part]);
            json!({"image": "a.png", "messages": [
                {"role": "user", "content": content}, {"role": "assistant", "content": "b"}]})
            .to_string()
        };
        let text = record(json!({"type": "text", "text": "c"}));
        assert_eq!(read(&text).unwrap()[0].instruction, "a\nc");
        assert_eq!(read(&record(json!({"type": "image"}))).unwrap()[0].instruction, "a");
        let own = read(&record(json!({"type": "image", "image": "b.png"}))).unwrap_err();
        assert!(own.to_string().contains("a part of type \"image\""), "{own}");
        let error = read(&record(json!({"type": "audio"}))).unwrap_err().to_string();
        assert!(error.ends_with("turn 1: a part of type \"audio\", expected \"text\""), "{error}");
    }

    #[test]
    fn unused_fields_of_records_and_turns_are_counted() {
        let record = json!({"id": "7", "tools": [], "source": "x", "messages": [
            {"role": "user", "content": "a", "name": "Ada"},
            {"role": "assistant", "content": 7},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]}]});
        let (rows, report) = read_with_report(&record.to_string()).unwrap();
        assert_eq!(rows, [Instruction::new("a", "", "7")]);
        let unused = ["id", "messages[].name", "messages[].tool_calls", "source"];
        assert_eq!(report.unused_fields.into_keys().collect::<Vec<_>>(), unused);
        assert!(report.adjustments.contains_key(&RowAdjustment::NumberAsText));
    }

    #[test]
    fn an_image_part_without_an_image_is_rejected() {
        let record = json!({"messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b"}]});
        let error = read(&record.to_string()).unwrap_err().to_string();
        let expected = "turn 1: a part of type \"image\", but the record has no `image`";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn a_tool_call_without_text_is_dropped_as_a_tool_call() {
        for content in [Value::Null, json!(""), json!([])] {
            let record = json!({"messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": content, "tool_calls": [{"id": "c"}]},
                {"role": "tool", "content": "7"},
                {"role": "assistant", "content": "b", "tool_calls": []}]});
            let (rows, report) = read_with_report(&record.to_string()).unwrap();
            assert_eq!(rows, [Instruction::new("a", "Tool: 7", "b")]);
            assert_eq!(report.dropped.into_keys().collect::<Vec<_>>(), [DropReason::ToolCall]);
        }
        let none = json!({"messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": null}]});
        let error = read(&none.to_string()).unwrap_err().to_string();
        assert!(error.ends_with("turn 2: `content` is missing"), "{error}");
    }

    #[test]
    fn without_an_image_the_placeholder_is_kept_as_text() {
        let turns =
            [message_json("human", "What does <image> mean?"), message_json("gpt", "A tag.")]
                .join(",");
        let rows = read(&format!(r#"{{"conversations":[{turns}]}}"#)).unwrap();
        assert_eq!(rows, [Instruction::new("What does <image> mean?", "", "A tag.")]);
    }

    #[test]
    fn errors_name_the_record_and_the_turn() {
        let message = |turns: &[String]| {
            let record = format!(r#"{{"image":"a.png","conversations":[{}]}}"#, turns.join(","));
            read(&record).unwrap_err().to_string()
        };
        let question = message_json("human", "What?");
        let pair = |second: &str| [question.clone(), second.into()];
        let unknown = message(&pair(&message_json("narrator", "Be brief.")));
        let expected =
            "chat.json, record 3: turn 2: `from` is \"narrator\", expected one of \"human\"";
        assert!(unknown.starts_with(expected), "{unknown}");
        assert!(message(&pair(r#"{"from":"gpt"}"#)).ends_with("turn 2: `value` is missing"));
        let list = message(&pair(r#"{"from":"gpt","value":{}}"#));
        assert!(list.ends_with("`value` is an object, not a text"), "{list}");
        assert!(message(&pair("7")).ends_with("turn 2: expected an object"));
        assert!(message(&pair("{}")).ends_with("turn 2: `from` and `role` are missing"));
        assert!(message(&[]).ends_with("`conversations` is empty"));
        let error = read(r#"{"conversations":"What?"}"#).unwrap_err();
        assert!(error.to_string().ends_with("`conversations` is not a list"));
        assert_eq!(error.advice(), Some(FORMAT_HINT.into()));
    }

    #[test]
    fn an_image_only_question_is_dropped() {
        let turns = [message_json("human", "<image>\n"), message_json("gpt", "A cat.")].join(",");
        let record = format!(r#"{{"image":"a.png","conversations":[{turns}]}}"#);
        let (rows, report) = read_with_report(&record).unwrap();
        assert!(rows.is_empty() && report.dropped.contains_key(&DropReason::EmptyPrompt));
    }
}
