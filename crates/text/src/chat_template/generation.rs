//! `{% generation %}` blocks: which parts of a rendered conversation the assistant wrote.
//!
//! Two characters that occur nowhere in the input surround the text of each block while the template is
//! rendered, and are removed from the result.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use minijinja::{State, Value};

use super::{ChatTemplate, Message};
use crate::error::{Error, Result};

/// Variable with the two characters.
pub(super) const MARKS: &str = "__generation_marks__";

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MarkedText {
    pub text: String,
    /// Bytes of each block, in order.
    pub generated: Vec<Range<usize>>,
}

/// The filter around the text of a block.
pub(super) fn mark(state: &State, text: String) -> Value {
    let marks = state.lookup(MARKS);
    let mut marks = marks.as_ref().and_then(Value::as_str).unwrap_or_default().chars();
    match (marks.next(), marks.next()) {
        (Some(start), Some(end)) => format!("{start}{text}{end}").into(),
        _ => text.into(),
    }
}

impl ChatTemplate {
    /// Whether the template marks what the assistant writes.
    pub(crate) fn has_generation_blocks(&self) -> bool {
        self.source.match_indices("endgeneration").any(|(at, _)| {
            let before = self.source[..at].trim_end_matches([' ', '\n', '\t', '-', '+']);
            before.ends_with("{%")
        })
    }

    /// Renders a complete conversation and finds the text of its `{% generation %}` blocks.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub(crate) fn render_marked(&self, messages: &[Message]) -> Result<MarkedText> {
        let [start, end] = self.unused_characters(messages)?;
        let marked = self.render_with(messages, false, Some(&format!("{start}{end}")))?;
        let mut text = String::with_capacity(marked.len());
        let (mut generated, mut open) = (Vec::new(), None);
        for c in marked.chars() {
            match open {
                None if c == start => open = Some(text.len()),
                Some(from) if c == end => {
                    generated.push(from..text.len());
                    open = None;
                }
                _ if c == start || c == end => return Err(unbalanced()),
                _ => text.push(c),
            }
        }
        if open.is_some() {
            return Err(unbalanced());
        }
        Ok(MarkedText { text, generated })
    }

    /// Two characters that occur neither in the messages nor in the template or its variables.
    fn unused_characters(&self, messages: &[Message]) -> Result<[char; 2]> {
        /// A plane that Unicode assigns no meaning to.
        const PRIVATE: RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';
        let texts = messages.iter().flat_map(|message| [&message.role, &message.content]);
        let texts = texts.chain([&self.source]).chain(self.tokens.values());
        let used = texts.flat_map(|text| text.chars()).filter(|c| PRIVATE.contains(c));
        let used = used.collect::<BTreeSet<_>>();
        let mut unused = PRIVATE.filter(|c| !used.contains(c));
        match (unused.next(), unused.next()) {
            (Some(start), Some(end)) => Ok([start, end]),
            _ => Err(Error::ChatTemplate {
                reason: "the messages contain all characters of a private plane of Unicode".into(),
            }),
        }
    }
}

fn unbalanced() -> Error {
    Error::ChatTemplate { reason: "{% generation %} blocks are inside each other".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "{% for m in messages %}\n{% if m.role == 'assistant' %}\n\
        {%- generation %}{{ m.content }}{{ loop.index }}\n{% endgeneration %}\n{% else %}\n\
        [{{ m.content }}]{% endif %}\n{% endfor %}";

    fn messages(texts: &[&str]) -> Vec<Message> {
        let role = |index| if index % 2 == 0 { "user" } else { "assistant" };
        texts.iter().enumerate().map(|(index, text)| Message::new(role(index), *text)).collect()
    }

    fn blocks(source: &str, texts: &[&str]) -> Vec<String> {
        let template = ChatTemplate::new(source).unwrap();
        let messages = messages(texts);
        let marked = template.render_marked(&messages).unwrap();
        assert_eq!(marked.text, template.render(&messages, false).unwrap());
        marked.generated.into_iter().map(|span| marked.text[span].to_owned()).collect()
    }

    #[test]
    fn the_blocks_of_a_loop_are_found_in_order() {
        assert_eq!(blocks(TEMPLATE, &["a", "b", "c", "d ä"]), ["b2\n", "d ä4\n"]);
        assert_eq!(blocks(TEMPLATE, &["a"]), [""; 0]);
        assert_eq!(blocks("{{ messages[0].content }}", &["a"]), [""; 0]);
    }

    #[test]
    fn characters_of_the_content_are_never_taken_for_marks() {
        let many = ('\u{F0000}'..'\u{F0100}').collect::<String>();
        for text in ["\u{F0000}", "\u{F0001}x\u{F0000}", &many] {
            assert_eq!(blocks(TEMPLATE, &[text, text]), [format!("{text}2\n")]);
        }
    }

    #[test]
    fn only_a_tag_is_a_block() {
        let has = |source: &str| ChatTemplate::new(source).unwrap().has_generation_blocks();
        assert!(has("{%- generation -%}a{%-   endgeneration %}"));
        assert!(!has("generation {{ 'endgeneration' }} {# generation #}"));
    }
}
