//! tokens of one answer ─► whole characters before the first stop string, each with its tokens

use std::collections::VecDeque;

use text::{Detokenizer, StopStrings, Tokenizer};

use super::request::Token;

/// The text of an answer as it grows.
#[derive(Debug)]
pub(crate) struct AnswerText<'t> {
    detokenizer: Detokenizer<'t>,
    stop: StopStrings,
    /// Bytes of all tokens' text.
    produced: usize,
    /// Bytes that have left.
    emitted: usize,
    /// Tokens none of whose text has left, each with the byte where its text starts.
    pending: VecDeque<(usize, Token)>,
}

/// Text that cannot change any more, and the tokens that it begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
}

impl<'t> AnswerText<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer, stop_strings: &[String]) -> Self {
        Self {
            detokenizer: Detokenizer::new(tokenizer),
            stop: StopStrings::new(stop_strings),
            produced: 0,
            emitted: 0,
            pending: VecDeque::new(),
        }
    }

    /// Adds a token; what it makes final.
    ///
    /// # Errors
    /// [`text::Error::Tokenizer`]
    pub(crate) fn push(&mut self, token: Token) -> text::Result<Piece> {
        let text = self.detokenizer.push(token.id)?;
        self.pending.push_back((self.produced, token));
        self.produced += text.len();
        let text = self.stop.push(&text);
        self.emitted += text.len();
        let mut tokens = Vec::new();
        while self.pending.front().is_some_and(|(start, _)| *start < self.emitted) {
            tokens.extend(self.pending.pop_front().map(|(_, token)| token));
        }
        Ok(Piece { text, tokens })
    }

    /// What is left, after the last token.
    ///
    /// # Errors
    /// [`text::Error::Tokenizer`]
    pub(crate) fn finish(&mut self) -> text::Result<Piece> {
        let text = self.detokenizer.finish()?;
        let text = self.stop.push(&text) + &self.stop.finish();
        let tokens = self.pending.drain(..).map(|(_, token)| token);
        let tokens = if self.stop.found() { Vec::new() } else { tokens.collect() };
        Ok(Piece { text, tokens })
    }

    /// Whether a stop string was found: nothing follows.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.found()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        Tokenizer::from_folder(&folder).unwrap()
    }

    fn pieces(stop: &str, text: &str) -> Vec<(String, String)> {
        let tokenizer = tokenizer();
        let mut answer = AnswerText::new(&tokenizer, &[stop.to_owned()]);
        let mut pieces = Vec::new();
        for id in tokenizer.encode_raw(text).unwrap() {
            pieces.push(answer.push(Token { id, logprob: None, top: Vec::new() }).unwrap());
            if answer.is_stopped() {
                break;
            }
        }
        pieces.push(answer.finish().unwrap());
        let ids = |piece: &Piece| piece.tokens.iter().map(|own| own.id).collect::<Vec<_>>();
        let text = |piece: Piece| (tokenizer.decode(&ids(&piece)).unwrap(), piece.text);
        pieces.into_iter().map(text).filter(|(a, b)| !(a.is_empty() && b.is_empty())).collect()
    }

    #[test]
    fn tokens_leave_with_their_text() {
        let whole = "The plural of cow is cows.";
        let pieces = pieces("", whole);
        assert!(pieces.len() > 5);
        assert!(pieces.iter().all(|(tokens, text)| tokens.trim() == text.trim()), "{pieces:?}");
        assert_eq!(pieces.into_iter().map(|own| own.1).collect::<String>(), whole);
    }

    #[test]
    fn tokens_of_a_stop_string_never_leave() {
        let pieces = pieces(" cow is", "The plural of cow is cows.");
        let (tokens, text): (String, String) = pieces.into_iter().unzip();
        assert_eq!(text, "The plural of");
        assert!(!tokens.contains("cow"), "{tokens}");
    }

    #[test]
    fn a_stop_string_that_does_not_come_holds_its_tokens_back_for_a_while() {
        let pieces = pieces(" cow was", "The plural of cow is cows.");
        assert!(pieces.iter().any(|(_, text)| text.starts_with(" cow is")), "{pieces:?}");
        let text = pieces.into_iter().map(|own| own.1).collect::<String>();
        assert_eq!(text, "The plural of cow is cows.");
    }
}
