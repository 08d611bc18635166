//! What was said, turn by turn ─► a row for each answer.
//!
//! ```text
//! system, history, input ─► input: lines `System: `, `Human: `, `Assistant: `, `Tool: `, then the input
//! last question          ─► instruction
//! answer                 ─► output
//! ```

use crate::fields::Fields;
use crate::instruction::Instruction;
use crate::row_report::{LeftOut, RowChange};
use crate::rows::EmptyOutputs;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Says how to answer.
    System,
    /// Asks.
    Human,
    /// Answers, or calls a tool.
    Assistant,
    /// Gives a tool's result.
    Tool,
}

impl Speaker {
    /// What lines of an input begin with.
    fn name(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::Human => "Human",
            Self::Assistant => "Assistant",
            Self::Tool => "Tool",
        }
    }
}

/// What one of them says.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub speaker: Speaker,
    pub text: String,
    /// What a question works on, which is a part of its row's input.
    pub input: String,
    /// Whether an answer is one to learn.
    pub learn: bool,
}

impl Turn {
    pub fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, text: text.into(), input: String::new(), learn: true }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.speaker.name(), self.text)
    }

    fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// The rows of what was said: one for each answer that is to be learned.
pub(super) fn rows(
    turns: Vec<Turn>,
    empty_outputs: EmptyOutputs,
    fields: &mut Fields,
) -> Vec<Instruction> {
    let turns = joined(turns, fields);
    let mut rows = Vec::new();
    // Lines before the last question, and behind it.
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    let mut question: Option<&Turn> = None;
    let mut is_open = false;
    let mut found_answer = false;
    for turn in &turns {
        match turn.speaker {
            Speaker::Human => {
                before.extend(question.filter(|turn| !turn.is_blank()).map(Turn::line));
                before.append(&mut behind);
                (question, is_open) = (Some(turn), true);
            }
            Speaker::System | Speaker::Tool => {
                if !turn.is_blank() {
                    behind.push(turn.line());
                }
            }
            Speaker::Assistant => {
                found_answer = true;
                let Some(question) = question else {
                    fields.change(RowChange::AnswerFirst);
                    continue;
                };
                is_open = false;
                let own = (!question.input.is_empty()).then_some(&question.input);
                let input = before.iter().chain(&behind).chain(own);
                let input = input.map(String::as_str).collect::<Vec<_>>().join("\n");
                if turn.learn {
                    if question.is_blank() {
                        fields.leave_out(LeftOut::EmptyPrompt);
                    } else if turn.is_blank() && empty_outputs == EmptyOutputs::Skip {
                        fields.leave_out(LeftOut::EmptyOutput);
                    } else {
                        let text = &turn.text;
                        let output = if turn.is_blank() { "" } else { text.as_str() };
                        rows.push(Instruction::new(question.text.as_str(), input, output));
                    }
                }
                if !turn.is_blank() {
                    behind.push(turn.line());
                }
            }
        }
    }
    if !found_answer {
        fields.leave_out(LeftOut::NoAnswer);
    } else if is_open {
        fields.change(RowChange::QuestionLast);
    }
    rows
}

/// One turn where a speaker has several, one behind the other.
fn joined(turns: Vec<Turn>, fields: &mut Fields) -> Vec<Turn> {
    let mut all: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        let talks = matches!(turn.speaker, Speaker::Human | Speaker::Assistant);
        match all.last_mut() {
            Some(last)
                if talks
                    && last.speaker == turn.speaker
                    && last.learn == turn.learn
                    && last.input.is_empty() =>
            {
                fields.change(RowChange::TurnsJoined);
                if !last.is_blank() && !turn.is_blank() {
                    last.text.push('\n');
                }
                last.text.push_str(&turn.text);
                last.input = turn.input;
            }
            _ => all.push(turn),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Map;

    use super::Speaker::{Assistant, Human, System, Tool};
    use super::*;
    use crate::origin::Origin;
    use crate::row_report::RowReport;

    /// Input, instruction and output of each row, and what was noted.
    fn read(turns: &[(Speaker, &str)]) -> (Vec<[String; 3]>, RowReport) {
        let origin =
            Origin { path: Path::new("a"), place: "record 1".into(), form: "", images: None };
        let (values, mut report) = (Map::new(), RowReport::default());
        let turns = turns.iter().map(|(speaker, text)| Turn::new(*speaker, *text)).collect();
        let mut fields = Fields::new(&origin, &values, &mut report);
        let found = rows(turns, EmptyOutputs::Skip, &mut fields);
        (found.into_iter().map(|row| [row.input, row.instruction, row.output]).collect(), report)
    }

    fn row(input: &str, instruction: &str, output: &str) -> [String; 3] {
        [input, instruction, output].map(String::from)
    }

    #[test]
    fn what_was_said_before_is_in_the_input() {
        let (rows, report) = read(&[
            (System, "Be kind."),
            (Human, "a"),
            (Assistant, "b"),
            (Human, "c"),
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

    #[test]
    fn a_call_is_an_answer_and_its_result_is_known_to_the_next() {
        let (rows, _) =
            read(&[(Human, "a"), (Assistant, "call"), (Tool, "7"), (Assistant, "It is 7.")]);
        let wanted = [row("", "a", "call"), row("Assistant: call\nTool: 7", "a", "It is 7.")];
        assert_eq!(rows, wanted);
    }

    #[test]
    fn turns_that_do_not_fit_are_left_out_or_joined_and_counted() {
        let (rows, report) = read(&[
            (Assistant, "Welcome."),
            (Human, "a"),
            (Human, "b"),
            (Assistant, "c"),
            (Human, "d"),
        ]);
        assert_eq!(rows, [row("", "a\nb", "c")]);
        assert_eq!(report.changes.values().map(|one| one.count).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(report.left_out.is_empty());
    }

    #[test]
    fn what_has_no_answer_or_no_question_is_left_out() {
        let reason = |turns: &[(Speaker, &str)]| {
            let (rows, report) = read(turns);
            assert_eq!(rows, [[""; 3]; 0]);
            report.left_out.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(reason(&[]), [LeftOut::NoAnswer]);
        assert_eq!(reason(&[(System, "a"), (Human, "b")]), [LeftOut::NoAnswer]);
        assert_eq!(reason(&[(Human, "a"), (Assistant, " ")]), [LeftOut::EmptyOutput]);
        assert_eq!(reason(&[(Human, " "), (Assistant, "a")]), [LeftOut::EmptyPrompt]);
    }
}
