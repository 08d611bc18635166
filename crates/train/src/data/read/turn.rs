//! A turn of a conversation, before it is part of a row.

use super::record_fields::RecordFields;
use super::row_report::RowAdjustment;
use crate::data::history_line;

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

    pub fn line(&self) -> String {
        history_line(self.role.name(), &self.text)
    }

    /// The turn in the context of a row: with its input, in one text.
    pub fn into_context(self) -> crate::data::Turn {
        let Self { role, mut text, input, train, .. } = self;
        if !input.is_empty() {
            text = format!("{text}\n\n{input}");
        }
        crate::data::Turn { train, ..crate::data::Turn::new(role.name(), text) }
    }

    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// Removes LLaVA's image placeholder and the newline next to it: a row has its image in a separate
/// field.
pub(super) fn strip_image_placeholder(text: &str) -> String {
    const PLACEHOLDER: &str = "<image>";
    let text = text.replace(&format!("{PLACEHOLDER}\n"), "");
    let text = text.replace(&format!("\n{PLACEHOLDER}"), "");
    text.replace(PLACEHOLDER, "")
}

/// Merges consecutive turns of the same role.
pub(super) fn merge_consecutive_turns(turns: Vec<Turn>, fields: &mut RecordFields) -> Vec<Turn> {
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
    use super::*;

    #[test]
    fn the_placeholder_is_stripped_with_its_newline() {
        assert_eq!(strip_image_placeholder("<image>\nWhat is it?"), "What is it?");
        assert_eq!(strip_image_placeholder("What is it?\n<image>"), "What is it?");
        assert_eq!(strip_image_placeholder("First.\n<image>\nSecond."), "First.\nSecond.");
        assert_eq!(strip_image_placeholder("What is <image>?"), "What is ?");
    }
}
