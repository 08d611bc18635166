//! Conversations in the format of LLaVA, ShareGPT or OpenAI ─► turns.
//!
//! ```text
//! {"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}], "system": "..."}
//! {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
//! ```

use serde_json::{Map, Value};

use super::read_options::EmptyOutputPolicy;
use super::record_fields::{RecordFields, json_type_name, value_to_text};
use super::turns::{self, Role, SharedFields, Turn};
use crate::data::{Instruction, first_chars};
use crate::error::{Error, Result};

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
    empty_outputs: EmptyOutputPolicy,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let shared = shared_fields(fields)?;
    let mut turns = system_turn(fields)?;
    turns.extend(read_turns(name, &shared, fields)?);
    turns::rows_from_turns(turns, &shared, empty_outputs, fields)
}

/// The rows of a record whose `prompt` and `completion` are lists of messages; the messages of the
/// prompt are not trained on.
///
/// Source: TRL's conversational prompt-completion format.
pub(super) fn prompt_completion_rows(
    empty_outputs: EmptyOutputPolicy,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let shared = shared_fields(fields)?;
    let mut turns = system_turn(fields)?;
    let prompt = read_turns("prompt", &shared, fields)?;
    turns.extend(prompt.into_iter().map(|turn| Turn { train: false, ..turn }));
    turns.extend(read_turns("completion", &shared, fields)?);
    turns::rows_from_turns(turns, &shared, empty_outputs, fields)
}

/// The system prompt of a record as a turn.
pub(super) fn system_turn(fields: &mut RecordFields) -> Result<Vec<Turn>> {
    let Some(name) = fields.first_present(&SYSTEM_FIELDS) else { return Ok(Vec::new()) };
    let text = fields.string(name)?;
    Ok(text.into_iter().map(|text| Turn::new(Role::System, text)).collect())
}

fn shared_fields(fields: &mut RecordFields) -> Result<SharedFields> {
    Ok(SharedFields { image: fields.image()?, tags: Vec::new() })
}

fn read_turns(
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

/// Names of the fields of a turn.
struct TurnKeys {
    role: &'static str,
    text: &'static str,
}

const TURN_KEYS: [TurnKeys; 2] =
    [TurnKeys { role: "from", text: "value" }, TurnKeys { role: "role", text: "content" }];
/// Fields that exclude a response from training: OpenAI's is a number, axolotl's a boolean.
const LOSS_WEIGHT_FIELDS: [&str; 2] = ["weight", "train"];

fn read_turn(
    value: &Value,
    number: usize,
    list: &str,
    has_image: bool,
    fields: &mut RecordFields,
) -> Result<Turn> {
    /// Characters of an unknown role that a message shows.
    const MAX_ROLE_CHARS: usize = 40;
    let origin = fields.origin;
    let turn_error = |reason: String| origin.error(format!("turn {number}: {reason}"));
    let Value::Object(values) = value else {
        return Err(turn_error("expected an object".into()));
    };
    let keys = TURN_KEYS.iter().find(|keys| values.contains_key(keys.role));
    let keys = keys.ok_or_else(|| turn_error("`from` and `role` are missing".into()))?;
    let Value::String(name) = &values[keys.role] else {
        return Err(turn_error(format!("`{}` is not a text", keys.role)));
    };
    let role = parse_role(name).ok_or_else(|| {
        let name = first_chars(name, MAX_ROLE_CHARS);
        turn_error(format!("`{}` is {name:?}, expected one of {}", keys.role, known_roles()))
    })?;
    let has_tool_call = has_tool_call(values);
    let text = match values.get(keys.text) {
        // A tool call needs no text.
        None | Some(Value::Null) if has_tool_call => String::new(),
        None | Some(Value::Null) => {
            return Err(turn_error(format!("`{}` is missing", keys.text)));
        }
        Some(Value::Array(parts)) => content_text(parts, has_image, &turn_error)?,
        Some(value) => value_to_text(value, origin, fields.report())
            .ok_or_else(|| turn_error(format!("`{}` is {}", keys.text, json_type_name(value))))?
            .into_owned(),
    };
    for (name, value) in values {
        let name = name.as_str();
        let is_used = [keys.role, keys.text].contains(&name) || LOSS_WEIGHT_FIELDS.contains(&name);
        if !is_used && !value.is_null() {
            fields.report().count_unused_field(&format!("{list}[].{name}"));
        }
    }
    let train = is_trained_on(values, &turn_error)?;
    Ok(Turn { train, has_tool_call, ..Turn::new(role, text) })
}

fn has_tool_call(values: &Map<String, Value>) -> bool {
    ["tool_calls", "function_call"].iter().any(|name| match values.get(*name) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    })
}

/// The text of OpenAI's list of content parts.
fn content_text(
    parts: &[Value],
    has_image: bool,
    turn_error: &dyn Fn(String) -> Error,
) -> Result<String> {
    let is_placeholder = |part: &Value| {
        let mut values = part.as_object().into_iter().flatten();
        values.all(|(name, value)| name == "type" || value.is_null())
    };
    let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text") | None, Some(text)) => Ok(Some(text.to_owned())),
        // The record has the image; an image in the part itself would be lost.
        (Some("image"), None) if is_placeholder(part) && has_image => Ok(None),
        (Some("image"), None) if is_placeholder(part) => {
            Err(turn_error("a part of type \"image\", but the record has no `image`".into()))
        }
        (Some(kind), _) => Err(turn_error(format!("a part of type {kind:?}, expected \"text\""))),
        _ => Err(turn_error("a part without a text".into())),
    };
    let texts = parts.iter().filter_map(|part| text(part).transpose());
    Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
}

/// Whether a response is trained on: not if `weight` is 0 or `train` is false.
fn is_trained_on(
    values: &Map<String, Value>,
    turn_error: &dyn Fn(String) -> Error,
) -> Result<bool> {
    let mut train = true;
    for name in LOSS_WEIGHT_FIELDS {
        match values.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Bool(value)) => train &= value,
            Some(Value::Number(value)) if value.as_f64() == Some(0.0) => train = false,
            Some(Value::Number(value)) if value.as_f64() == Some(1.0) => {}
            Some(other) => {
                let reason = format!("`{name}` is {other}, expected 0, 1, true or false");
                return Err(turn_error(reason));
            }
        }
    }
    Ok(train)
}

/// Names of each role.
const ROLE_NAMES: [(Role, &[&str]); 4] = [
    (Role::User, &["human", "user", "prompter"]),
    (
        Role::Assistant,
        &["gpt", "assistant", "model", "chatgpt", "bing", "bard", "function_call", "tool_call"],
    ),
    (Role::System, &["system", "developer"]),
    (Role::Tool, &["tool", "observation", "function", "function_response", "ipython"]),
];

fn parse_role(name: &str) -> Option<Role> {
    let name = name.trim().to_ascii_lowercase();
    ROLE_NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(role, _)| *role)
}

/// All role names, for messages.
fn known_roles() -> String {
    let names = ROLE_NAMES.iter().flat_map(|(_, names)| *names);
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
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
        let rows = conversation_rows(name, EmptyOutputPolicy::Skip, &mut fields)?;
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
