//! A record with a chosen and a rejected answer ─► the row of the chosen one.
//!
//! ```text
//! {"prompt": "...", "chosen": "...", "rejected": "..."}                 TRL, and the same with lists of messages
//! {"chosen": [{"role": ...}, ...], "rejected": [{"role": ...}, ...]}    TRL's implicit prompt
//! {"chosen": "\n\nHuman: ...\n\nAssistant: ...", "rejected": "..."}     Anthropic's transcripts
//! ```

use serde_json::Value;

use super::conversation_record::{read_turns, shared_fields, system_turn};
use super::instruction_record::{PROMPT_FIELDS, rows_with_output};
use super::read_options::ReadOptions;
use super::record_fields::RecordFields;
use super::row_report::RowAdjustment;
use super::turn::{Role, Turn};
use super::turns;
use crate::data::Instruction;
use crate::error::Result;

/// Name of the field with the chosen answer.
pub(super) const CHOSEN_FIELD: &str = "chosen";
const REJECTED_FIELD: &str = "rejected";

/// The rows of a record. What both answers begin with is their prompt and is not trained on.
///
/// Source: the preference formats of TRL's documentation, and `Anthropic/hh-rlhf`.
pub(super) fn preference_rows(
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    fields.count_adjustment(RowAdjustment::ChosenAnswer);
    let rejected = fields.value(REJECTED_FIELD);
    let has_prompt = fields.first_present(&PROMPT_FIELDS).is_some();
    let prompt_is_turns = fields.value("prompt").is_some_and(Value::is_array);
    let (chosen, shared_turns) = match (fields.value(CHOSEN_FIELD), rejected) {
        (Some(Value::Array(chosen)), rejected) => {
            let rejected = rejected.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let pairs = chosen.iter().zip(rejected);
            let shared = pairs.take_while(|(chosen, rejected)| chosen == rejected).count();
            (None, shared)
        }
        (Some(Value::String(chosen)), Some(Value::String(rejected))) if !has_prompt => {
            let turns = transcript_turns(chosen);
            let pairs = turns.iter().zip(transcript_turns(rejected));
            let shared = pairs.take_while(|(chosen, other)| chosen.text == other.text).count();
            (Some(turns), shared)
        }
        _ if prompt_is_turns => {
            let answer = fields.string(CHOSEN_FIELD)?.unwrap_or_default();
            (Some(vec![Turn::new(Role::Assistant, answer)]), 0)
        }
        _ => return rows_with_output(CHOSEN_FIELD, options, fields),
    };
    let shared = shared_fields(fields)?;
    let mut turns = system_turn(fields)?;
    if prompt_is_turns {
        let prompt = read_turns("prompt", &shared, fields)?;
        turns.extend(prompt.into_iter().map(|turn| Turn { train: false, ..turn }));
    }
    let chosen = match chosen {
        Some(turns) if turns.is_empty() => {
            let reason = format!("`prompt` is missing, and `{CHOSEN_FIELD}` is no transcript");
            return Err(fields.origin.error(reason));
        }
        Some(turns) => turns,
        None => read_turns(CHOSEN_FIELD, &shared, fields)?,
    };
    if !prompt_is_turns
        && chosen.iter().all(|turn| turn.role != Role::User)
        && let Some(name) = fields.first_present(&PROMPT_FIELDS)
    {
        let question = fields.string(name)?.unwrap_or_default();
        turns.push(Turn::new(Role::User, question));
    } else if let Some(name) = fields.first_present(&PROMPT_FIELDS) {
        // Repeats the first turn.
        fields.value(name);
    }
    let chosen = chosen.into_iter().enumerate();
    turns.extend(
        chosen.map(|(index, turn)| Turn { train: turn.train && index >= shared_turns, ..turn }),
    );
    turns::rows_from_turns(turns, &shared, options, fields)
}

/// The turns of Anthropic's transcripts; empty for other texts.
fn transcript_turns(text: &str) -> Vec<Turn> {
    const NAMES: [(&str, Role); 2] =
        [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let first = |text: &str| {
        let found = NAMES.iter().filter_map(|(name, role)| Some((text.find(name)?, *name, *role)));
        found.min_by_key(|(at, ..)| *at)
    };
    let mut turns = Vec::new();
    let mut next = first(text).filter(|(at, ..)| text[..*at].trim().is_empty());
    let mut rest = text;
    while let Some((at, name, role)) = next {
        rest = &rest[at + name.len()..];
        next = first(rest);
        let turn = next.map_or(rest, |(end, ..)| &rest[..end]);
        turns.push(Turn::new(role, turn.trim()));
    }
    turns
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::row_report::RowAdjustment;
    use crate::data::Instruction;
    use crate::data::read::tests::{read, read_with_report};

    fn rows(record: &Value) -> Vec<Instruction> {
        let loaded = read_with_report("a.jsonl", &record.to_string()).unwrap();
        assert_eq!(loaded.report.adjustments[&RowAdjustment::ChosenAnswer].count, 1);
        assert!(loaded.report.unused_fields.is_empty(), "{:?}", loaded.report);
        loaded.rows
    }

    fn message(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    #[test]
    fn the_chosen_answer_is_used_in_every_form_of_the_prompt() {
        let expected = [Instruction::new("a", "", "b")];
        let [question, chosen, rejected] =
            [("user", "a"), ("assistant", "b"), ("assistant", "c")].map(|(r, t)| message(r, t));
        for record in [
            json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
            json!({"question": "a", "chosen": "b", "rejected": "c"}),
            json!({"prompt": "a", "chosen": [&chosen], "rejected": [&rejected]}),
            json!({"prompt": [&question], "chosen": [&chosen], "rejected": [&rejected]}),
            json!({"prompt": [&question], "chosen": "b", "rejected": "c"}),
            json!({"prompt": "a", "chosen": [&question, &chosen], "rejected": [&question, &rejected]}),
            json!({"chosen": [&question, &chosen], "rejected": [&question, &rejected]}),
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}),
        ] {
            assert_eq!(rows(&record), expected, "{record}");
        }
    }

    #[test]
    fn what_both_answers_begin_with_is_not_trained_on() {
        let turns = ["a", "b", "c"]
            .map(|text| message(if text == "b" { "assistant" } else { "user" }, text));
        let answer = |text: &str| [&turns[..], &[message("assistant", text)]].concat();
        let record = json!({"chosen": answer("d"), "rejected": answer("e")});
        let expected = [Instruction::new("c", "Human: a\nAssistant: b", "d")];
        assert_eq!(rows(&record), expected);
        let text = |answer: &str| {
            format!("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: {answer}")
        };
        assert_eq!(rows(&json!({"chosen": text("d"), "rejected": text("e")})), expected);
    }

    #[test]
    fn a_pair_without_a_prompt_is_rejected() {
        let error = read("a", r#"{"chosen": "b", "rejected": "c"}"#).unwrap_err().to_string();
        assert!(error.ends_with("`prompt` is missing, and `chosen` is no transcript"), "{error}");
        let error = read("a", r#"{"prompt": "a", "chosen": 1.5, "rejected": {}}"#);
        assert_eq!(error.unwrap()[0].output, "1.5");
    }
}
