//! Tokens with their mask ─► text in which the trained ones stand out.

use text::{Detokenizer, Tokenizer};
use train::Example;

use crate::failure::Result;

/// Escape sequences of a token that is not trained on and of one that is; neighbors alternate between two.
const COLORS: [[&str; 2]; 2] = [["\x1b[39m", "\x1b[90m"], ["\x1b[1;32m", "\x1b[1;36m"]];
const RESET: &str = "\x1b[0m";

/// The text of an example. Tokens that are trained on are colored, or in brackets without colors.
pub fn show_example(example: &Example, tokenizer: &Tokenizer, colored: bool) -> Result<String> {
    let mut is_label = vec![false; example.tokens.len()];
    for position in example.label_positions() {
        is_label[position] = true;
    }
    let mut detokenizer = Detokenizer::new(tokenizer);
    let mut text = String::new();
    let mut bracket_open = false;
    for (index, (&token, &label)) in example.tokens.iter().zip(&is_label).enumerate() {
        let piece = detokenizer.push(token)?;
        // Special tokens have no text.
        let piece = match (piece.is_empty(), tokenizer.token(token)) {
            (true, Some(name)) if tokenizer.decode(&[token])?.is_empty() => name,
            _ => piece,
        };
        let piece = escape(&piece);
        if colored {
            text += COLORS[usize::from(label)][index % 2];
            text += &piece;
        } else {
            if label != bracket_open {
                text.push(if label { '⟦' } else { '⟧' });
                bracket_open = label;
            }
            text += &piece;
        }
    }
    text += &escape(&detokenizer.finish()?);
    if colored {
        text += RESET;
    } else if bracket_open {
        text.push('⟧');
    }
    Ok(text)
}

/// A piece of text without control characters besides line feeds: they would command the terminal.
fn escape(piece: &str) -> String {
    let mut text = String::with_capacity(piece.len());
    for c in piece.chars() {
        if c.is_control() && c != '\n' {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, from: usize, colored: bool) -> String {
        let tokenizer = built_in::model().unwrap().tokenizer().unwrap();
        let mut tokens = tokenizer.encode(text).unwrap();
        tokens.extend(tokenizer.eos.first());
        show_example(&Example::with_labels_from(tokens, from), &tokenizer, colored).unwrap()
    }

    #[test]
    fn trained_tokens_are_in_brackets_without_colors() {
        assert_eq!(show("Ada is a farmer.", 4, false), "<|begin|>Ada is a⟦ farmer.<|end|>⟧");
    }

    #[test]
    fn trained_tokens_have_other_colors() {
        let shown = show("Ada is a farmer.", 3, true);
        let expected = "\x1b[39m<|begin|>\x1b[90mAda\x1b[39m is\x1b[1;36m a\x1b[1;32m farmer";
        assert!(shown.starts_with(expected), "{shown:?}");
        assert!(shown.ends_with("<|end|>\x1b[0m"), "{shown:?}");
    }

    #[test]
    fn control_characters_of_the_data_are_escaped() {
        let shown = show("a\x1b[2Jb\nc\u{7}", 1, false);
        assert!(shown.contains("\\u{1b}[2J") && shown.contains('\n'), "{shown:?}");
        assert!(!shown.contains('\x1b') && !shown.contains('\u{7}'), "{shown:?}");
    }
}
