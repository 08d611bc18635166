//! A record with what is asked and what is answered in fields of their own ─► a row, or one for each
//! answer of its history.
//!
//! ```text
//! instruction  input    output        Alpaca; with system and history LLaMA-Factory
//! instruction  context  response      Dolly
//! prompt                completion    OpenAI, TRL
//! question     context  answer
//! ```

use serde_json::Value;

use crate::error::Result;
use crate::fields::{Fields, text_of};
use crate::instruction::Instruction;
use crate::rows::EmptyOutputs;

use super::conversation;
use super::dialogue::{self, Speaker, Turn};

/// Names of what is asked; the first that is there counts, as with the others.
pub(super) const PROMPTS: [&str; 4] = ["instruction", "prompt", "question", "query"];
/// Names of what it is asked about.
pub(super) const INPUTS: [&str; 2] = ["input", "context"];
/// Names of the answer.
pub(super) const OUTPUTS: [&str; 4] = ["output", "completion", "response", "answer"];

/// The rows of a record.
///
/// Sources: Stanford Alpaca; for `system` and `history`
/// <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>, where the answers of the
/// history are learned too.
pub(super) fn rows(empty_outputs: EmptyOutputs, fields: &mut Fields) -> Result<Vec<Instruction>> {
    let output = required(fields, &OUTPUTS, "output")?;
    if let Some(Value::Number(_)) = fields.value(output)
        && fields.first_of(&["choices"]).is_some()
    {
        return Err(fields.origin.error(format!(
            "`{output}` is a number beside `choices`: write the right one's text into `output`, and \
             all of them into `options`"
        )));
    }
    let input = fields.first_of(&INPUTS);
    let (prompt, input) = match (fields.first_of(&PROMPTS), input) {
        // The input alone is what is asked.
        (None, Some(input)) => (input, None),
        (None, None) => (required(fields, &PROMPTS, "instruction")?, None),
        (Some(prompt), input) => (prompt, input),
    };
    for (name, role) in
        [(prompt, "instruction"), (input.unwrap_or("input"), "input"), (output, "output")]
    {
        if name != role {
            fields.read_as(&format!("{name} as {role}"));
        }
    }
    let mut asked = text(fields, prompt)?;
    let mut with = input.map(|name| text(fields, name)).transpose()?.unwrap_or_default();
    if asked.trim().is_empty() && !with.trim().is_empty() {
        (asked, with) = (with, String::new());
    }
    let mut turns = conversation::system(fields)?;
    turns.extend(history(fields)?);
    turns.push(Turn { input: with, ..Turn::new(Speaker::Human, asked) });
    turns.push(Turn::new(Speaker::Assistant, text(fields, output)?));

    let (image, tags) = (fields.image()?, fields.texts("tags")?);
    let options = fields.texts("options")?;
    let answer = turns.last().map(|turn| turn.text.clone()).unwrap_or_default();
    if !options.is_empty() && !answer.trim().is_empty() && !options.contains(&answer) {
        return Err(fields.origin.error(format!("`{output}` is none of the `options`")));
    }
    let mut rows = dialogue::rows(turns, empty_outputs, fields);
    for row in &mut rows {
        row.image.clone_from(&image);
        row.tags.clone_from(&tags);
    }
    // The history's answers are to other questions.
    if let Some(last) = rows.last_mut().filter(|row| row.output == answer) {
        last.options = options;
    }
    Ok(rows)
}

/// The first of some fields that is there, or an error that shows the fields there are.
fn required(fields: &Fields, names: &[&'static str], wanted: &str) -> Result<&'static str> {
    fields.named(names).ok_or_else(|| {
        fields.origin.error(format!("`{wanted}` is missing; the record has {}", fields.names()))
    })
}

fn text(fields: &mut Fields, name: &str) -> Result<String> {
    Ok(fields.text(name)?.unwrap_or_default().into_owned())
}

/// The turns of `history`, a list of pairs of question and answer.
fn history(fields: &mut Fields) -> Result<Vec<Turn>> {
    const NAME: &str = "history";
    let Some(value) = fields.value(NAME) else { return Ok(Vec::new()) };
    let origin = fields.origin;
    let bad = || origin.error(format!("`{NAME}` is not a list of pairs of texts"));
    let mut turns = Vec::new();
    for pair in value.as_array().ok_or_else(bad)? {
        let Some([question, answer]) = pair.as_array().map(Vec::as_slice) else {
            return Err(bad());
        };
        for (speaker, value) in [(Speaker::Human, question), (Speaker::Assistant, answer)] {
            let text = match value {
                Value::Null => "".into(),
                value => text_of(value, origin, fields.report()).ok_or_else(bad)?,
            };
            turns.push(Turn::new(speaker, text));
        }
    }
    Ok(turns)
}
