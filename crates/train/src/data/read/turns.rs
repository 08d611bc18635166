//! The turns of a conversation ─► a row for each response, or one row.
//!
//! ```text
//! a row for each response, for templates without earlier turns:
//! system, history, input ─► input: lines `System: `, `Human: `, `Assistant: `, `Tool: `, then the input
//! last question          ─► instruction
//! response               ─► output
//! one row, for chat templates:
//! all turns but the last response ─► context
//! last response                   ─► output
//! ```

use super::read_options::{ConversationRows, EmptyOutputPolicy, ReadOptions};
use super::record_fields::RecordFields;
use super::row_report::{DropReason, RowAdjustment};
use super::turn::{Role, Turn, merge_consecutive_turns, strip_image_placeholder};
use crate::data::Instruction;
use crate::error::Result;

/// Fields that all rows of a record share.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedFields {
    pub image: Option<String>,
    pub tags: Vec<String>,
}

/// Maximum size of all rows of a record in bytes. Each row repeats the turns before it, so the size
/// grows with the square of the number of turns.
const MAX_ROW_BYTES: usize = 1 << 27;

/// The rows of a conversation: one for each response that is trained on, or one for all of them.
///
/// # Errors
/// [`Error::Record`](crate::Error::Record) if the rows would be too large.
pub(super) fn rows_from_turns(
    mut turns: Vec<Turn>,
    shared: &SharedFields,
    options: &ReadOptions,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    // Without an image the placeholder is ordinary text, for example in a page of HTML.
    if shared.image.is_some() {
        for turn in turns.iter_mut().filter(|turn| turn.role == Role::User) {
            turn.text = strip_image_placeholder(&turn.text);
            turn.input = strip_image_placeholder(&turn.input);
        }
    }
    let turns = merge_consecutive_turns(turns, fields);
    match options.conversations {
        ConversationRows::PerResponse => {
            rows_per_response(&turns, shared, options.empty_outputs, fields)
        }
        ConversationRows::Whole => {
            Ok(whole_row(turns, shared, options.empty_outputs, fields).into_iter().collect())
        }
    }
}

/// A row for each response that is trained on.
fn rows_per_response(
    turns: &[Turn],
    shared: &SharedFields,
    empty_outputs: EmptyOutputPolicy,
    fields: &mut RecordFields,
) -> Result<Vec<Instruction>> {
    let shared_texts = shared.tags.iter().chain(&shared.image);
    let shared_len = shared_texts.map(|text| size_of::<String>() + text.len()).sum::<usize>();
    let mut len = 0_usize;
    let mut rows = Vec::new();
    // Lines before and after the last question.
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut question: Option<&Turn> = None;
    let mut is_open = false;
    let mut has_response = false;
    for turn in turns {
        match turn.role {
            Role::User => {
                before.extend(question.filter(|turn| !turn.is_blank()).map(Turn::line));
                before.append(&mut after);
                (question, is_open) = (Some(turn), true);
            }
            Role::System | Role::Tool => {
                if !turn.is_blank() {
                    after.push(turn.line());
                }
            }
            Role::Assistant => {
                has_response = true;
                let Some(question) = question else {
                    fields.count_adjustment(RowAdjustment::LeadingAnswerDropped);
                    continue;
                };
                is_open = false;
                match drop_reason(question, turn, empty_outputs) {
                    _ if !turn.train => {}
                    Some(reason) => fields.drop_row(reason),
                    None => {
                        let context = (!question.input.is_empty()).then_some(&question.input);
                        let input = before.iter().chain(&after).chain(context);
                        let lines = input.clone().map(|line| line.len() + 1).sum::<usize>();
                        len += lines + question.text.len() + turn.text.len() + shared_len;
                        if len > MAX_ROW_BYTES {
                            return Err(fields.origin.error(too_large(turns.len())));
                        }
                        let input = input.map(String::as_str).collect::<Vec<_>>().join("\n");
                        let output = if turn.is_blank() { "" } else { turn.text.as_str() };
                        rows.push(Instruction {
                            image: shared.image.clone(),
                            tags: shared.tags.clone(),
                            options: turn.options.clone(),
                            ..Instruction::new(question.text.as_str(), input, output)
                        });
                    }
                }
                if !turn.is_blank() {
                    after.push(turn.line());
                }
            }
        }
    }
    if !has_response {
        fields.drop_row(DropReason::NoAnswer);
    } else if is_open {
        fields.count_adjustment(RowAdjustment::TrailingQuestionDropped);
    }
    Ok(rows)
}

/// One row with all turns up to the last response that is trained on; `None` without such a response.
fn whole_row(
    mut turns: Vec<Turn>,
    shared: &SharedFields,
    empty_outputs: EmptyOutputPolicy,
    fields: &mut RecordFields,
) -> Option<Instruction> {
    let first_question = turns.iter().position(|turn| turn.role == Role::User);
    let is_response = |turn: &Turn| turn.role == Role::Assistant;
    if !turns.iter().any(is_response) {
        fields.drop_row(DropReason::NoAnswer);
        return None;
    }
    let mut index = 0;
    turns.retain(|turn| {
        let is_leading = is_response(turn) && first_question.is_none_or(|first| index < first);
        index += 1;
        if is_leading {
            fields.count_adjustment(RowAdjustment::LeadingAnswerDropped);
        }
        !is_leading
    });
    let mut question: Option<Turn> = None;
    for turn in &mut turns {
        match (turn.role, &question) {
            (Role::User, _) => question = Some(turn.clone()),
            (Role::Assistant, Some(question)) if turn.train => {
                if let Some(reason) = drop_reason(question, turn, empty_outputs) {
                    fields.drop_row(reason);
                    turn.train = false;
                }
            }
            _ => {}
        }
    }
    if turns.last().is_some_and(|turn| turn.role == Role::User) {
        fields.count_adjustment(RowAdjustment::TrailingQuestionDropped);
    }
    let last = turns.iter().rposition(|turn| is_response(turn) && turn.train)?;
    turns.truncate(last + 1);
    let response = turns.pop()?;
    let output = if response.is_blank() { String::new() } else { response.text };
    turns.retain(|turn| turn.role != Role::System || !turn.is_blank());
    let is_question = matches!(&turns[..], [turn] if turn.role == Role::User);
    let row = if is_question {
        let Turn { text, input, .. } = turns.remove(0);
        Instruction::new(text, input, output)
    } else {
        let turns = turns.into_iter().map(Turn::into_context).collect();
        Instruction::conversation(turns, output)
    };
    Some(Instruction {
        image: shared.image.clone(),
        tags: shared.tags.clone(),
        options: response.options,
        ..row
    })
}

fn too_large(turns: usize) -> String {
    format!(
        "the rows of its {turns} turns exceed {} MiB, because each repeats the turns before it: split \
         it into shorter conversations",
        MAX_ROW_BYTES >> 20
    )
}

/// Why a response makes no row.
fn drop_reason(
    question: &Turn,
    response: &Turn,
    empty_outputs: EmptyOutputPolicy,
) -> Option<DropReason> {
    match () {
        () if question.is_blank() => Some(DropReason::EmptyPrompt),
        () if !response.is_blank() => None,
        () if response.has_tool_call => Some(DropReason::ToolCall),
        () => (empty_outputs == EmptyOutputPolicy::Skip).then_some(DropReason::EmptyOutput),
    }
}

#[cfg(test)]
mod tests;
