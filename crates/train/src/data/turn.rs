//! Conversations as rows.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use text::Message;

use super::instruction::Instruction;

/// A turn of a conversation before the response of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The role and the text; the roles are `system`, `user`, `assistant` and `tool`.
    #[serde(flatten)]
    pub message: Message,
    /// Whether a turn of the assistant may be a label.
    pub train: bool,
}

impl Turn {
    /// A turn, which is trained on if it is the assistant's.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { message: Message::new(role, content), train: true }
    }
}

/// What precedes the output of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowContext {
    /// The instruction with its input.
    #[default]
    Instruction,
    /// The turns of a conversation. `instruction` repeats the last question, for reports.
    Turns(Vec<Turn>),
    /// Nothing: the output is plain text, and every token of it is a label.
    Nothing,
}

impl RowContext {
    pub(super) fn is_instruction(&self) -> bool {
        *self == Self::Instruction
    }
}

impl Instruction {
    /// A row of a conversation that ends with `output`, after `turns`.
    pub fn conversation(turns: Vec<Turn>, output: impl Into<String>) -> Self {
        let question = turns.iter().rfind(|turn| turn.message.role == "user");
        let question = question.map_or(String::new(), |turn| turn.message.content.clone());
        Self { context: RowContext::Turns(turns), ..Self::new(question, "", output) }
    }

    /// A row of plain text: no prompt, and every token is a label.
    pub fn text(text: impl Into<String>) -> Self {
        Self { context: RowContext::Nothing, ..Self::new("", "", text) }
    }

    /// The row for a template without earlier turns: those of a conversation become lines of the input
    /// that begin with `System: `, `Human: `, `Assistant: ` and `Tool: `.
    pub fn flattened(&self) -> Cow<'_, Self> {
        let RowContext::Turns(turns) = &self.context else { return Cow::Borrowed(self) };
        let question = turns.iter().rposition(|turn| turn.message.role == "user");
        let others = turns.iter().enumerate().filter(|(index, turn)| {
            Some(*index) != question && !turn.message.content.trim().is_empty()
        });
        let lines = others.map(|(_, turn)| history_line(&turn.message.role, &turn.message.content));
        let input = lines.collect::<Vec<_>>().join("\n");
        Cow::Owned(Self { input, context: RowContext::Instruction, ..self.clone() })
    }
}

/// A turn as a line of an input.
pub(crate) fn history_line(role: &str, content: &str) -> String {
    let name = match role {
        "system" => "System",
        "user" => "Human",
        "assistant" => "Assistant",
        "tool" => "Tool",
        other => other,
    };
    format!("{name}: {content}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_flattened_into_lines_of_the_input() {
        let turns = vec![
            Turn::new("system", "Be kind."),
            Turn::new("user", "a"),
            Turn::new("assistant", "b"),
            Turn::new("user", "c"),
            Turn::new("assistant", " "),
            Turn::new("tool", "7"),
        ];
        let row = Instruction::conversation(turns, "d");
        assert_eq!(row.instruction, "c");
        let input = "System: Be kind.\nHuman: a\nAssistant: b\nTool: 7";
        assert_eq!(*row.flattened(), Instruction::new("c", input, "d"));
        let plain = Instruction::new("a", "b", "c");
        assert_eq!(*plain.flattened(), plain);
    }
}
