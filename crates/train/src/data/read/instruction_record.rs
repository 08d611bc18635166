//! A record with prompt and response in separate fields ─► a row, plus one for each answer of its
//! history.
//!
//! ```text
//! instruction  input    output        Alpaca; with system and history LLaMA-Factory
//! instruction  context  response      Dolly
//! prompt                completion    OpenAI, TRL
//! question     context  answer
//! ```

use serde_json::Value;

use super::conversation_record;
use super::read_options::ReadOptions;
use super::record_fields::{RecordFields, value_to_text};
use super::turn::{Role, Turn};
use super::turns::{self, SharedFields};
use crate::data::Instruction;
use crate::error::Result;

/// Names of the instruction field; the first that is present is used, as with the other lists.
pub(super) const PROMPT_FIELDS: [&str; 4] = ["instruction", "prompt", "question", "query"];
/// Names of the input field.
pub(super) const INPUT_FIELDS: [&str; 2] = ["input", "context"];
/// Names of the output field.
pub(super) const OUTPUT_FIELDS: [&str; 4] = ["output", "completion", "response", "answer"];

/// The rows of a record.
///
/// Sources: Stanford Alpaca; for `system` and `history`
/// <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>, which trains on the answers
/// of the history too.
pub(super) fn instruction_rows(
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let output = required_field(fields, &OUTPUT_FIELDS, "output")?;
    rows_with_output(output, options, fields)
}

/// The rows of a record whose response is in the field `output`.
pub(super) fn rows_with_output(
    output: &'static str,
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    if let Some(Value::Number(_)) = fields.value(output)
        && fields.first_present(&["choices"]).is_some()
    {
        return Err(fields.origin.error(format!(
            "`{output}` is a number, and there are `choices`: write the text of the correct choice \
             into `output`, and all choices into `options`"
        )));
    }
    let input = fields.first_present(&INPUT_FIELDS);
    let (prompt, input) = match (fields.first_present(&PROMPT_FIELDS), input) {
        // An input alone is the instruction.
        (None, Some(input)) => (input, None),
        (None, None) => (required_field(fields, &PROMPT_FIELDS, "instruction")?, None),
        (Some(prompt), input) => (prompt, input),
    };
    for (name, role) in
        [(prompt, "instruction"), (input.unwrap_or("input"), "input"), (output, "output")]
    {
        if name != role {
            fields.count_alias(&format!("{name} as {role}"));
        }
    }
    let mut instruction = text_or_empty(fields, prompt)?;
    let mut input = input.map(|name| text_or_empty(fields, name)).transpose()?.unwrap_or_default();
    if instruction.trim().is_empty() && !input.trim().is_empty() {
        (instruction, input) = (input, String::new());
    }
    let mut turns = conversation_record::system_turn(fields)?;
    turns.extend(history_turns(fields)?);
    turns.push(Turn { input, ..Turn::new(Role::User, instruction) });

    let answer = text_or_empty(fields, output)?;
    let shared = SharedFields { image: fields.image()?, tags: fields.strings("tags")? };
    let choices = fields.strings("options")?;
    if !choices.is_empty() && !answer.trim().is_empty() && !choices.contains(&answer) {
        return Err(fields.origin.error(format!("`{output}` is none of the `options`")));
    }
    // The options belong to the last question only, not to the history.
    turns.push(Turn { options: choices, ..Turn::new(Role::Assistant, answer) });
    turns::rows_from_turns(turns, &shared, options, fields)
}

/// The first of some fields that is present, or an error that lists the present fields.
fn required_field(
    fields: &RecordFields,
    names: &[&'static str],
    role: &str,
) -> Result<&'static str> {
    fields.first_declared(names).ok_or_else(|| {
        let present = fields.field_names();
        fields.origin.error(format!("`{role}` is missing; the record has {present}"))
    })
}

fn text_or_empty(fields: &mut RecordFields, name: &str) -> Result<String> {
    Ok(fields.string(name)?.unwrap_or_default().into_owned())
}

/// The turns of `history`, a list of pairs of question and answer.
fn history_turns(fields: &mut RecordFields) -> Result<Vec<Turn>> {
    const NAME: &str = "history";
    let Some(value) = fields.value(NAME) else { return Ok(Vec::new()) };
    let origin = fields.origin;
    let type_error = || origin.error(format!("`{NAME}` is not a list of pairs of texts"));
    let mut turns = Vec::new();
    for pair in value.as_array().ok_or_else(type_error)? {
        let Some([question, answer]) = pair.as_array().map(Vec::as_slice) else {
            return Err(type_error());
        };
        for (role, value) in [(Role::User, question), (Role::Assistant, answer)] {
            let text = match value {
                Value::Null => "".into(),
                value => value_to_text(value, origin, fields.report()).ok_or_else(type_error)?,
            };
            turns.push(Turn::new(role, text));
        }
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_options::EmptyOutputPolicy;
    use super::super::row_report::RowAdjustment;
    use super::*;
    use crate::data::read::parse_rows;
    use crate::data::read::tests::{read, read_with_report, texts};

    #[test]
    fn field_aliases_of_other_datasets_are_read() {
        let expected = [["c", "a", "b"].map(String::from)];
        for (prompt, input, output) in [
            ("instruction", "input", "output"),
            ("instruction", "context", "response"),
            ("prompt", "input", "completion"),
            ("question", "context", "answer"),
            ("query", "context", "response"),
        ] {
            let record = serde_json::json!({prompt: "a", input: "c", output: "b"});
            assert_eq!(texts(&record.to_string()), expected, "{record}");
            assert_eq!(texts(&format!("{prompt},{input},{output}\na,c,b\n")), expected);
        }
        let loaded = read_with_report("a", r#"{"input": "a", "output": "b"}"#).unwrap();
        assert_eq!(loaded.rows, [Instruction::new("a", "", "b")]);
        assert_eq!(loaded.report.messages(), ["read input as instruction (1)"]);
        // Some data sets leave the instruction empty because it is the same for all rows.
        let record = r#"{"instruction": "", "input": "a", "output": "b"}"#;
        assert_eq!(texts(record), [["", "a", "b"]]);
    }

    #[test]
    fn system_and_history_go_into_the_input() {
        let record = serde_json::json!({
            "instruction": "And in winter?", "input": "Here.", "output": "It is cold.",
            "system": "Answer as a sailor.", "history": [["How is summer?", "It is warm."]]});
        assert_eq!(
            texts(&record.to_string()),
            [
                ["System: Answer as a sailor.", "How is summer?", "It is warm."],
                [
                    "System: Answer as a sailor.\nHuman: How is summer?\nAssistant: It is warm.\nHere.",
                    "And in winter?",
                    "It is cold."
                ]
            ]
        );
        let invalid = r#"{"instruction": "a", "output": "b", "history": [["c"]]}"#;
        let error = read("a.json", invalid).unwrap_err().to_string();
        assert!(error.ends_with("`history` is not a list of pairs of texts"), "{error}");
    }

    #[test]
    fn empty_outputs_follow_the_policy() {
        let text = "{\"instruction\": \"a\", \"output\": \"b\"}\n\n\
            {\"instruction\": \"c\", \"output\": \" \"}\n{\"instruction\": \"d\", \"output\": null}";
        let loaded = read_with_report("a", text).unwrap();
        assert_eq!(loaded.rows, [Instruction::new("a", "", "b")]);
        let line = "2 rows are left out: the answer is empty (line 3, line 4)";
        assert_eq!(loaded.report.messages(), [line]);
        let keep = ReadOptions { empty_outputs: EmptyOutputPolicy::Keep, ..ReadOptions::default() };
        let rows = parse_rows(Path::new("a"), text, &keep).unwrap().rows;
        let outputs = rows.iter().map(|row| row.output.as_str());
        assert_eq!(outputs.collect::<Vec<_>>(), ["b", "", ""]);
        let none = read("a", r#"{"instruction": "c", "output": ""}"#).unwrap_err().to_string();
        let expected = "a: no rows to train on: 1 row is left out: the answer is empty (line 1)";
        assert_eq!(none, expected);
    }

    #[test]
    fn numbers_and_booleans_become_text_and_are_counted() {
        let text = r#"[{"instruction": "2+2", "output": 4}, {"instruction": 1, "output": true},
            {"instruction": "a", "output": 1.5, "options": [1.5, 2]}]"#;
        let loaded = read_with_report("a", text).unwrap();
        let outputs = loaded.rows.iter().map(|row| row.output.as_str());
        assert_eq!(outputs.collect::<Vec<_>>(), ["4", "true", "1.5"]);
        assert_eq!(loaded.rows[2].options, ["1.5", "2"]);
        assert_eq!(loaded.report.adjustments[&RowAdjustment::NumberAsText].count, 6);
    }

    #[test]
    fn unused_fields_are_counted_by_name() {
        let text = r#"[{"id": 1, "instruction": "a", "output": "b", "text": "a b", "source": ""},
            {"id": 2, "instruction": "a", "output": "b", "image": "a.png", "tags": ["x"]}]"#;
        let loaded = read_with_report("a", text).unwrap();
        assert_eq!(loaded.report.messages(), ["unused fields: id (2), text (1)"]);
    }

    #[test]
    fn a_single_image_may_be_a_list() {
        let read = |images: &str| {
            let row = format!(r#"{{"instruction": "a", "output": "b", "images": {images}}}"#);
            read("a", &row)
        };
        assert_eq!(read(r#"["a.png"]"#).unwrap()[0].image.as_deref(), Some("/images/a.png"));
        assert_eq!(read("[]").unwrap()[0].image, None);
        let error = read(r#"["a.png", "b.png"]"#).unwrap_err().to_string();
        assert!(error.ends_with("2 images, but a row can have one"), "{error}");
    }

    #[test]
    fn the_image_placeholder_is_stripped_from_rows_with_an_image() {
        let row = r#"{"instruction": "<image>\nWhat?", "input": "b <image>", "images": ["a.png"],
            "history": [["<image>\nWho?", "c"]], "output": "x"}"#;
        assert_eq!(
            texts(row),
            [["", "Who?", "c"], ["Human: Who?\nAssistant: c\nb ", "What?", "x"]]
        );
        let without = r#"{"instruction": "<image>\nWhat?", "output": "x"}"#;
        assert_eq!(texts(without), [["", "<image>\nWhat?", "x"]]);
    }

    #[test]
    fn options_belong_to_the_last_question() {
        let options = |output: &str, empty_outputs| {
            let row = serde_json::json!({
                "instruction": "a", "output": output, "options": ["x", "y"], "tags": ["t"],
                "history": [["b", "x"], ["c", ""]]});
            let options = ReadOptions { empty_outputs, ..ReadOptions::default() };
            let rows = parse_rows(Path::new("a"), &row.to_string(), &options).unwrap().rows;
            assert!(rows.iter().all(|row| row.tags == ["t"]));
            rows.iter().map(|row| row.options.len()).collect::<Vec<_>>()
        };
        assert_eq!(options("x", EmptyOutputPolicy::Skip), [0, 2]);
        assert_eq!(options("", EmptyOutputPolicy::Skip), [0]);
        assert_eq!(options(" ", EmptyOutputPolicy::Keep), [0, 0, 2]);
    }

    #[test]
    fn a_choice_index_is_rejected_as_an_output() {
        let row = r#"{"question": "a", "choices": ["x", "y"], "answer": 1}"#;
        let error = read("a", row).unwrap_err().to_string();
        assert!(error.contains("`answer` is a number, and there are `choices`: write"), "{error}");
    }
}
