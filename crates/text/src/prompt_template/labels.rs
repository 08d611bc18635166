//! Which tokens of a conversation are labels.
//!
//! A template with `{% generation %}` marks the assistant's turns itself. In others a turn begins where the
//! prompt of the messages before it ends, and ends where the text of the messages up to it ends:
//!
//! ```text
//! messages       <user>Hi<end><assistant>Hello.<end><user>...
//! prompt before  <user>Hi<end><assistant>
//! up to it       <user>Hi<end><assistant>Hello.<end>
//! labels                                 ^^^^^^^^^^^
//! ```

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::chat_template::{ChatTemplate, MarkedText, Message};
use crate::error::{Error, Result};

/// Which tokens of a row are labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// The assistant's last turn.
    Last,
    /// All turns of the assistant.
    #[default]
    All,
    /// Every token: prompts too.
    Everything,
}

/// A tokenized row, and the spans of its tokens that are labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledTokens {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Positions of the labels: ascending ranges that do not overlap.
    pub label_spans: Vec<Range<usize>>,
}

/// The text of a conversation, and the bytes of each of the assistant's turns in it.
///
/// # Errors
/// [`Error::ChatTemplate`] if the template rejects the messages, [`Error::AssistantTurns`] if its text does
/// not show where a turn is.
pub(super) fn assistant_turns(template: &ChatTemplate, messages: &[Message]) -> Result<MarkedText> {
    let turns = messages.iter().filter(|message| is_assistant(message)).count();
    if template.has_generation_blocks() {
        let marked = template.render_marked(messages)?;
        if marked.generated.len() != turns {
            let reason = format!(
                "it has {} {{% generation %}} blocks for {turns} turns",
                marked.generated.len()
            );
            return Err(Error::AssistantTurns { reason });
        }
        return Ok(marked);
    }
    let text = template.render(messages, false)?;
    let mut generated = Vec::with_capacity(turns);
    for (index, _) in messages.iter().enumerate().filter(|(_, message)| is_assistant(message)) {
        let not_found = |reason: &str| Error::AssistantTurns {
            reason: format!("message {} of {}: {reason}", index + 1, messages.len()),
        };
        let prompt = template.render(&messages[..index], true)?;
        let until = template.render(&messages[..=index], false)?;
        if !text.starts_with(&prompt) || !until.starts_with(&prompt) {
            return Err(not_found("its text does not begin with the prompt that it answers"));
        }
        if !text.starts_with(&until) {
            return Err(not_found("its text changes when other messages follow"));
        }
        generated.push(prompt.len()..until.len());
    }
    Ok(MarkedText { text, generated })
}

pub(super) fn is_assistant(message: &Message) -> bool {
    message.role == "assistant"
}

/// The tokens that contain any of the bytes of a span.
pub(super) fn tokens_of(span: &Range<usize>, offsets: &[(usize, usize)]) -> Range<usize> {
    let start = offsets.partition_point(|&(_, end)| end <= span.start);
    if span.is_empty() {
        return start..start;
    }
    let end = offsets.partition_point(|&(start, _)| start < span.end);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}\
                         {% if add_generation_prompt %}<assistant>{% endif %}";

    fn turns(source: &str) -> Result<Vec<String>> {
        let messages = [
            Message::new("user", "a"),
            Message::new("assistant", "b"),
            Message::new("user", "b"),
            Message::new("assistant", "<assistant> c"),
        ];
        let found = assistant_turns(&ChatTemplate::new(source)?, &messages)?;
        Ok(found.generated.into_iter().map(|span| found.text[span].to_owned()).collect())
    }

    #[test]
    fn turns_are_found_by_the_prompts_before_them() {
        assert_eq!(turns(PLAIN).unwrap(), ["b<end>\n", "<assistant> c<end>\n"]);
    }

    #[test]
    fn a_template_that_changes_earlier_turns_needs_marks() {
        let last_only = "{% for m in messages %}{{ m.content if loop.last else '' }}{% endfor %}";
        let error = turns(last_only).unwrap_err();
        assert!(matches!(error, Error::AssistantTurns { .. }), "{error}");
        let shortens = "{% for m in messages %}[{{ m.content }}]{{ '!' if loop.last }}{% endfor %}";
        let error = turns(shortens).unwrap_err().to_string();
        assert!(error.contains("message 2 of 4: its text"), "{error}");
        let one = "{% generation %}{{ messages[1].content }}{% endgeneration %}";
        let error = turns(one).unwrap_err().to_string();
        assert!(error.contains("1 {% generation %} blocks for 2 turns"), "{error}");
    }

    #[test]
    fn a_token_across_the_edge_of_a_span_belongs_to_it() {
        let offsets = [(0, 2), (2, 5), (5, 5), (5, 7), (7, 9)];
        assert_eq!(tokens_of(&(2..7), &offsets), 1..4);
        assert_eq!(tokens_of(&(4..6), &offsets), 1..4);
        assert_eq!(tokens_of(&(7..9), &offsets), 4..5);
        assert_eq!(tokens_of(&(9..9), &offsets), 5..5);
        assert_eq!(tokens_of(&(3..3), &offsets).len(), 0);
    }
}
