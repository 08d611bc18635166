//! A turn object of a conversation ─► a turn.
//!
//! ```text
//! ShareGPT, LLaVA  {"from": "human", "value": "..."}
//! OpenAI           {"role": "user", "content": "..." or [{"type": "text", "text": "..."}]}
//! ```

use ::data::names::first_chars;
use serde_json::{Map, Value};

use super::record_fields::{RecordFields, json_type_name, value_to_text};
use super::turn::{Role, Turn};
use crate::error::{Error, Result};

/// Names of the fields of a turn.
struct TurnKeys {
    role: &'static str,
    text: &'static str,
}

const TURN_KEYS: [TurnKeys; 2] =
    [TurnKeys { role: "from", text: "value" }, TurnKeys { role: "role", text: "content" }];
/// Fields that exclude a response from training: OpenAI's is a number, axolotl's a boolean.
const LOSS_WEIGHT_FIELDS: [&str; 2] = ["weight", "train"];

/// Reads turn `number`, counted from 1, of the field `list`.
pub(super) fn read_turn(
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
