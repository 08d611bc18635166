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
use crate::data::{Instruction, history_line};
use crate::error::Result;

/// The role of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The system prompt.
    System,
    /// A question.
    User,
    /// A response or a tool call.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The role's name in chat templates.
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A turn of a conversation.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub role: Role,
    pub text: String,
    /// Context of a question, part of its row's input.
    pub input: String,
    /// Whether a response is trained on.
    pub train: bool,
    /// Whether a response has a tool call in a field that is not read.
    pub has_tool_call: bool,
    /// The options of a multiple-choice question, on its response.
    pub options: Vec<String>,
}

impl Turn {
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            text: text.into(),
            input: String::new(),
            train: true,
            has_tool_call: false,
            options: Vec::new(),
        }
    }

    fn line(&self) -> String {
        history_line(self.role.name(), &self.text)
    }

    /// The turn in the context of a row: with its input, in one text.
    fn into_context(self) -> crate::data::Turn {
        let Self { role, mut text, input, train, .. } = self;
        if !input.is_empty() {
            text = format!("{text}\n\n{input}");
        }
        crate::data::Turn { train, ..crate::data::Turn::new(role.name(), text) }
    }

    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

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

/// Removes LLaVA's image placeholder and the newline next to it: a row has its image in a separate
/// field.
fn strip_image_placeholder(text: &str) -> String {
    const PLACEHOLDER: &str = "<image>";
    let text = text.replace(&format!("{PLACEHOLDER}\n"), "");
    let text = text.replace(&format!("\n{PLACEHOLDER}"), "");
    text.replace(PLACEHOLDER, "")
}

/// Merges consecutive turns of the same role.
fn merge_consecutive_turns(turns: Vec<Turn>, fields: &mut RecordFields) -> Vec<Turn> {
    let mut merged: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        let is_mergeable = matches!(turn.role, Role::User | Role::Assistant);
        match merged.last_mut() {
            Some(last)
                if is_mergeable
                    && last.role == turn.role
                    && last.train == turn.train
                    && last.input.is_empty() =>
            {
                fields.count_adjustment(RowAdjustment::TurnsMerged);
                if !last.is_blank() && !turn.is_blank() {
                    last.text.push('\n');
                }
                last.text.push_str(&turn.text);
                last.input = turn.input;
                last.has_tool_call |= turn.has_tool_call;
                last.options.extend(turn.options);
            }
            _ => merged.push(turn),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Map;

    use super::super::record_origin::RecordOrigin;
    use super::super::row_report::RowReport;
    use super::Role::{Assistant, System, Tool, User};
    use super::*;
    use crate::data::RowContext;

    fn read_all(
        turns: Vec<Turn>,
        empty_outputs: EmptyOutputPolicy,
    ) -> (Result<Vec<Instruction>>, RowReport) {
        read_as(ConversationRows::PerResponse, turns, empty_outputs)
    }

    fn read_as(
        conversations: ConversationRows,
        turns: Vec<Turn>,
        empty_outputs: EmptyOutputPolicy,
    ) -> (Result<Vec<Instruction>>, RowReport) {
        let options = ReadOptions { empty_outputs, conversations, ..ReadOptions::default() };
        let origin = RecordOrigin {
            path: Path::new("a"),
            location: "record 1".into(),
            format_hint: "",
            image_folder: None,
        };
        let (values, mut report) = (Map::new(), RowReport::default());
        let mut fields = RecordFields::new(&origin, &values, &mut report);
        let rows = rows_from_turns(turns, &SharedFields::default(), &options, &mut fields);
        (rows, report)
    }

    /// Input, instruction and output of each row, and the report.
    fn read(turns: &[(Role, &str)]) -> (Vec<[String; 3]>, RowReport) {
        let turns = turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect();
        let (rows, report) = read_all(turns, EmptyOutputPolicy::Skip);
        let rows = rows.unwrap().into_iter();
        (rows.map(|row| [row.input, row.instruction, row.output]).collect(), report)
    }

    fn row(input: &str, instruction: &str, output: &str) -> [String; 3] {
        [input, instruction, output].map(String::from)
    }

    #[test]
    fn earlier_turns_go_into_the_input() {
        let (rows, report) = read(&[
            (System, "Be kind."),
            (User, "a"),
            (Assistant, "b"),
            (User, "c"),
            (Assistant, "d"),
        ]);
        assert_eq!(
            rows,
            [
                row("System: Be kind.", "a", "b"),
                row("System: Be kind.\nHuman: a\nAssistant: b", "c", "d"),
            ]
        );
        assert_eq!(report, RowReport::default());
    }

    /// The messages and the output of a whole conversation, with a `*` at responses that are labels.
    fn read_whole(turns: Vec<Turn>) -> (Vec<String>, RowReport) {
        let (rows, report) = read_as(ConversationRows::Whole, turns, EmptyOutputPolicy::Skip);
        let rows = rows.unwrap();
        assert!(rows.len() < 2, "{rows:?}");
        let texts = rows.into_iter().flat_map(|row| {
            let RowContext::Turns(turns) = row.context else { panic!("{row:?}") };
            let turns = turns.into_iter().map(|turn| {
                let is_label = turn.train && turn.message.role == "assistant";
                let mark = if is_label { "*" } else { "" };
                format!("{}{mark}: {}", turn.message.role, turn.message.content)
            });
            turns.chain([row.output]).collect::<Vec<_>>()
        });
        (texts.collect(), report)
    }

    #[test]
    fn a_whole_conversation_is_one_row_up_to_its_last_label() {
        let untrained = |text: &str| Turn { train: false, ..Turn::new(Assistant, text) };
        let (row, report) = read_whole(vec![
            Turn::new(System, "Be kind."),
            Turn::new(Assistant, "Welcome."),
            Turn { input: "here".into(), ..Turn::new(User, "a") },
            Turn::new(Assistant, "call"),
            Turn::new(Tool, "7"),
            untrained("b"),
            Turn::new(User, "c"),
            Turn::new(Assistant, "d"),
            Turn::new(User, "e"),
            untrained("f"),
            Turn::new(User, "g"),
        ]);
        let expected = [
            "system: Be kind.",
            "user: a\n\nhere",
            "assistant*: call",
            "tool: 7",
            "assistant: b",
            "user: c",
            "d",
        ];
        assert_eq!(row, expected);
        let counts = report.adjustments.into_iter().map(|(kind, own)| (kind, own.count));
        let expected =
            [(RowAdjustment::LeadingAnswerDropped, 1), (RowAdjustment::TrailingQuestionDropped, 1)];
        assert_eq!(counts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_single_question_is_the_same_row_in_both_forms() {
        for conversations in [ConversationRows::Whole, ConversationRows::PerResponse] {
            let question = Turn { input: "b".into(), ..Turn::new(User, "a") };
            let turns = vec![question, Turn::new(Assistant, "c")];
            let (rows, _) = read_as(conversations, turns, EmptyOutputPolicy::Skip);
            assert_eq!(rows.unwrap(), [Instruction::new("a", "b", "c")]);
        }
    }

    #[test]
    fn the_flattened_form_of_a_whole_row_is_the_row_of_its_last_response() {
        let turns = [
            (System, "Be kind."),
            (User, "a"),
            (Assistant, "call"),
            (Tool, "7"),
            (Assistant, "b"),
            (User, "c"),
            (Tool, "8"),
            (Assistant, "d"),
        ];
        let turns = || turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect();
        let rows = |form| read_as(form, turns(), EmptyOutputPolicy::Skip).0.unwrap();
        let [per_response, whole] =
            [ConversationRows::PerResponse, ConversationRows::Whole].map(rows);
        assert_eq!((per_response.len(), whole.len()), (3, 1));
        assert_eq!(*whole[0].flattened(), per_response[2]);
    }

    #[test]
    fn an_empty_response_of_a_whole_conversation_is_no_label() {
        let turns = |last: &str| {
            let turns = [(User, "a"), (Assistant, " "), (User, "c"), (Assistant, last)];
            turns.iter().map(|(role, text)| Turn::new(*role, *text)).collect()
        };
        let (row, report) = read_whole(turns("d"));
        assert_eq!(row, ["user: a", "assistant:  ", "user: c", "d"]);
        assert_eq!(report.dropped[&DropReason::EmptyOutput].count, 1);
        let (row, report) = read_whole(turns(""));
        assert_eq!(row, [""; 0]);
        assert_eq!(report.dropped[&DropReason::EmptyOutput].count, 2);
    }

    #[test]
    fn a_tool_call_is_a_response_and_its_result_is_history() {
        let (rows, _) =
            read(&[(User, "a"), (Assistant, "call"), (Tool, "7"), (Assistant, "It is 7.")]);
        let expected = [row("", "a", "call"), row("Assistant: call\nTool: 7", "a", "It is 7.")];
        assert_eq!(rows, expected);
    }

    #[test]
    fn an_unread_tool_call_is_never_trained_as_an_empty_output() {
        for empty_outputs in [EmptyOutputPolicy::Skip, EmptyOutputPolicy::Keep] {
            let call = Turn { has_tool_call: true, ..Turn::new(Assistant, "") };
            let turns =
                vec![Turn::new(User, "a"), call, Turn::new(Tool, "7"), Turn::new(Assistant, "b")];
            let (rows, report) = read_all(turns, empty_outputs);
            assert_eq!(rows.unwrap(), [Instruction::new("a", "Tool: 7", "b")]);
            assert_eq!(report.dropped.into_keys().collect::<Vec<_>>(), [DropReason::ToolCall]);
        }
    }

    #[test]
    fn a_conversation_with_too_large_rows_is_rejected() {
        let turns = (0..20_000).flat_map(|_| [Turn::new(User, "ab"), Turn::new(Assistant, "cd")]);
        let (rows, _) = read_all(turns.collect(), EmptyOutputPolicy::Skip);
        let error = rows.unwrap_err().to_string();
        let expected = "a, record 1: the rows of its 40000 turns exceed 128 MiB";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn the_placeholder_is_stripped_with_its_newline() {
        assert_eq!(strip_image_placeholder("<image>\nWhat is it?"), "What is it?");
        assert_eq!(strip_image_placeholder("What is it?\n<image>"), "What is it?");
        assert_eq!(strip_image_placeholder("First.\n<image>\nSecond."), "First.\nSecond.");
        assert_eq!(strip_image_placeholder("What is <image>?"), "What is ?");
    }

    #[test]
    fn irregular_turns_are_dropped_or_merged_and_counted() {
        let (rows, report) = read(&[
            (Assistant, "Welcome."),
            (User, "a"),
            (User, "b"),
            (Assistant, "c"),
            (User, "d"),
        ]);
        assert_eq!(rows, [row("", "a\nb", "c")]);
        assert_eq!(
            report.adjustments.values().map(|occurrences| occurrences.count).collect::<Vec<_>>(),
            [1, 1, 1]
        );
        assert!(report.dropped.is_empty());
    }

    #[test]
    fn turns_without_a_question_or_an_answer_are_dropped() {
        let reason = |turns: &[(Role, &str)]| {
            let (rows, report) = read(turns);
            assert_eq!(rows, [[""; 3]; 0]);
            report.dropped.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(reason(&[]), [DropReason::NoAnswer]);
        assert_eq!(reason(&[(System, "a"), (User, "b")]), [DropReason::NoAnswer]);
        assert_eq!(reason(&[(User, "a"), (Assistant, " ")]), [DropReason::EmptyOutput]);
        assert_eq!(reason(&[(User, " "), (Assistant, "a")]), [DropReason::EmptyPrompt]);
    }
}
