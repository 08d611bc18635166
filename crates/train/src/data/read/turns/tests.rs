//! Tests of the rows of a conversation.

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
    let (rows, report) =
        read(&[(System, "Be kind."), (User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
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
    let [per_response, whole] = [ConversationRows::PerResponse, ConversationRows::Whole].map(rows);
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
    let (rows, _) = read(&[(User, "a"), (Assistant, "call"), (Tool, "7"), (Assistant, "It is 7.")]);
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
fn irregular_turns_are_dropped_or_merged_and_counted() {
    let (rows, report) =
        read(&[(Assistant, "Welcome."), (User, "a"), (User, "b"), (Assistant, "c"), (User, "d")]);
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
