//! LLaVA's conversations: `{"id", "image", "conversations": [human, gpt, human, gpt, ...]}` ─► a
//! row for each answer.
//!
//! What was said before goes into a row's input, as lines that begin with `Human: ` and
//! `Assistant: `.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::instruction::Instruction;
use crate::origin::Origin;

/// What a record looks like, for hints.
pub(super) const FORM: &str = "a conversation is {\"image\": \"...\", \"conversations\": \
    [{\"from\": \"human\", \"value\": \"...\"}, {\"from\": \"gpt\", \"value\": \"...\"}]}; `image` \
    may be left out";

/// Where LLaVA puts the picture among the words; here it has its own place.
const PLACEHOLDER: &str = "<image>";

/// The rows of a record, one for each turn of `gpt`.
///
/// Source:
/// <https://github.com/haotian-liu/LLaVA/blob/9ad726577ceabb54fc641d75e139aa5a266147d1/docs/Finetune_Custom_Data.md>.
pub(super) fn rows(fields: &Map<String, Value>, origin: &Origin) -> Result<Vec<Instruction>> {
    let image = origin.image_field(fields)?;
    let Some(Value::Array(turns)) = fields.get("conversations") else {
        return Err(origin.error("`conversations` is not a list"));
    };
    if turns.is_empty() {
        return Err(origin.error("`conversations` is empty"));
    }
    let mut rows = Vec::new();
    let mut said: Vec<String> = Vec::new();
    for (pair, two) in turns.chunks(2).enumerate() {
        let number = 2 * pair + 1;
        let question = turn(&two[0], number, "human", origin)?;
        // Without a picture the same letters are part of the text, a page of HTML for instance.
        let question =
            if image.is_some() { without_placeholder(question) } else { question.into() };
        if question.trim().is_empty() {
            return Err(origin.error(format!("turn {number}: nothing is asked")));
        }
        let Some(second) = two.get(1) else {
            return Err(origin.error(format!("turn {number}: no answer follows")));
        };
        let answer = turn(second, number + 1, "gpt", origin)?;
        rows.push(Instruction {
            image: image.clone(),
            ..Instruction::new(question.as_str(), said.join("\n"), answer)
        });
        said.push(format!("Human: {question}"));
        said.push(format!("Assistant: {answer}"));
    }
    Ok(rows)
}

/// What is said in a turn, which must be `speaker`'s.
fn turn<'v>(value: &'v Value, number: usize, speaker: &str, origin: &Origin) -> Result<&'v str> {
    let bad = |reason: String| origin.error(format!("turn {number}: {reason}"));
    let from = match value.get("from") {
        Some(Value::String(from)) => from,
        Some(_) => return Err(bad("`from` is not a text".into())),
        None => return Err(bad("`from` is missing".into())),
    };
    if !["human", "gpt"].contains(&from.as_str()) {
        return Err(bad(format!("`from` is {from:?}, expected \"human\" or \"gpt\"")));
    }
    if from != speaker {
        return Err(bad(format!("`from` is {from:?}, but it is the turn of {speaker:?}")));
    }
    match value.get("value") {
        None | Some(Value::Null) => Err(bad("`value` is missing".into())),
        Some(Value::String(text)) if text.trim().is_empty() => Err(bad("`value` is empty".into())),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(bad("`value` is not a text".into())),
    }
}

/// A text without the placeholder and the newline beside it.
fn without_placeholder(text: &str) -> String {
    let below = text.replace(&format!("{PLACEHOLDER}\n"), "");
    let above = below.replace(&format!("\n{PLACEHOLDER}"), "");
    above.replace(PLACEHOLDER, "")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diagnostic::Diagnostic;

    use super::*;

    fn read(record: &str) -> Result<Vec<Instruction>> {
        let Value::Object(fields) = serde_json::from_str(record).unwrap() else { unreachable!() };
        let place = "record 3".to_string();
        rows(&fields, &Origin { path: Path::new("chat.json"), place, form: FORM, images: None })
    }

    fn said(from: &str, value: &str) -> String {
        serde_json::json!({"from": from, "value": value}).to_string()
    }

    #[test]
    fn each_answer_is_a_row_that_knows_what_was_said() {
        let turns = [
            said("human", "<image>\nWhat is it?"),
            said("gpt", "A cat."),
            said("human", "Which colour?"),
            said("gpt", "Grey."),
            said("human", "And how old?"),
            said("gpt", "Two."),
        ];
        let record = format!(r#"{{"image":"a.png","conversations":[{}]}}"#, turns.join(","));
        let rows = read(&record).unwrap();
        let short =
            |row: &Instruction| (row.instruction.clone(), row.input.clone(), row.output.clone());
        let wanted = [
            ("What is it?", "", "A cat."),
            ("Which colour?", "Human: What is it?\nAssistant: A cat.", "Grey."),
            (
                "And how old?",
                "Human: What is it?\nAssistant: A cat.\nHuman: Which colour?\nAssistant: Grey.",
                "Two.",
            ),
        ];
        for (row, (instruction, input, output)) in rows.iter().zip(wanted) {
            assert_eq!(short(row), (instruction.into(), input.into(), output.into()));
            assert_eq!(row.image.as_deref(), Some("a.png"));
        }
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn the_placeholder_goes_with_the_newline_beside_it() {
        assert_eq!(without_placeholder("<image>\nWhat is it?"), "What is it?");
        assert_eq!(without_placeholder("What is it?\n<image>"), "What is it?");
        assert_eq!(without_placeholder("First.\n<image>\nSecond."), "First.\nSecond.");
        assert_eq!(without_placeholder("What is <image>?"), "What is ?");
    }

    #[test]
    fn a_record_without_an_image_is_text_and_keeps_its_letters() {
        let turns = [said("human", "What does <image> mean?"), said("gpt", "A tag.")].join(",");
        let rows = read(&format!(r#"{{"conversations":[{turns}]}}"#)).unwrap();
        assert_eq!(rows, [Instruction::new("What does <image> mean?", "", "A tag.")]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_record_and_turn() {
        let message = |turns: &[String]| {
            let record = format!(r#"{{"image":"a.png","conversations":[{}]}}"#, turns.join(","));
            read(&record).unwrap_err().to_string()
        };
        let (asked, told) = (said("human", "What?"), said("gpt", "That."));
        let pair = |second: &str| [asked.clone(), second.into()];
        assert_eq!(
            message(&[told.clone(), asked.clone()]),
            "chat.json, record 3: turn 1: `from` is \"gpt\", but it is the turn of \"human\""
        );
        assert_eq!(
            message(&pair(&asked)),
            "chat.json, record 3: turn 2: `from` is \"human\", but it is the turn of \"gpt\""
        );
        assert_eq!(
            message(&[asked.clone(), told, asked.clone()]),
            "chat.json, record 3: turn 3: no answer follows"
        );
        assert_eq!(
            message(&pair(&said("system", "Be brief."))),
            "chat.json, record 3: turn 2: `from` is \"system\", expected \"human\" or \"gpt\""
        );
        assert!(message(&pair(r#"{"from":"gpt"}"#)).ends_with("turn 2: `value` is missing"));
        assert!(message(&pair(r#"{"from":"gpt","value":7}"#)).ends_with("`value` is not a text"));
        assert!(message(&pair(&said("gpt", " "))).ends_with("turn 2: `value` is empty"));
        assert!(message(&pair("7")).ends_with("turn 2: `from` is missing"));
        assert!(message(&[said("human", "<image>\n")]).ends_with("turn 1: nothing is asked"));
        assert!(message(&[]).ends_with("`conversations` is empty"));
        let error = read(r#"{"conversations":"What?"}"#).unwrap_err();
        assert!(error.to_string().ends_with("`conversations` is not a list"));
        assert_eq!(error.advice(), Some(FORM.into()));
    }
}
