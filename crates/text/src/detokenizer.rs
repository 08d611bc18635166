//! tokens, one at a time ─► text that never ends within a character
//!
//! The text of a token depends on its neighbors: the bytes of one character may span several tokens, and a
//! leading space is dropped only at the start of a text. So a short window of tokens is decoded again at every
//! step; the new text is what was not emitted before.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Replaces bytes that are not a character, or not yet complete.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Maximum number of tokens that are decoded again. A longer window contains invalid bytes, or tokens that
/// each end within a character.
const WINDOW: usize = 32;

/// Tokens kept when a window without a complete end is truncated: more than the four bytes of a character, so
/// that an incomplete one is kept whole.
const CONTEXT: usize = 8;

/// Turns the tokens of one text into pieces of text, in linear time.
#[derive(Debug, Clone)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    window: Vec<u32>,
    /// The emitted part of the window's text.
    emitted: String,
    /// Tokens of the window whose text was emitted completely.
    n_emitted: usize,
}

impl<'t> Detokenizer<'t> {
    /// The start of a text. Special tokens have no text.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), emitted: String::new(), n_emitted: 0 }
    }

    /// The text that became final with this token; empty within a character.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        // Bytes at the end may be the start of a character.
        let complete = text.trim_end_matches(REPLACEMENT);
        let is_complete = complete.len() == text.len();
        let piece = match complete.strip_prefix(&self.emitted) {
            Some(piece) => piece.to_owned(),
            // Invalid bytes change how those before them decode.
            None if is_complete => self.tokenizer.decode(&self.window[self.n_emitted..])?,
            None => String::new(),
        };
        if is_complete && !piece.is_empty() {
            self.advance()?;
            return Ok(piece);
        }
        self.emitted += &piece;
        if self.window.len() > WINDOW {
            return Ok(piece + &self.truncate(&text)?);
        }
        Ok(piece)
    }

    /// The pending text, whose last character is incomplete.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn finish(&mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window)?;
        let rest = match text.strip_prefix(&self.emitted) {
            Some(rest) => rest.to_owned(),
            None => self.tokenizer.decode(&self.window[self.n_emitted..])?,
        };
        (self.window, self.emitted, self.n_emitted) = (Vec::new(), String::new(), 0);
        Ok(rest)
    }

    /// All of the window was emitted: its newest tokens become the context of the next.
    fn advance(&mut self) -> Result<()> {
        let newest = self.tokenizer.decode(&self.window[self.n_emitted..])?;
        // After a context without text, such as a single space, the next token would decode as the start of
        // a text.
        if !newest.is_empty() {
            self.window.drain(..self.n_emitted);
        } else if self.window.len() > WINDOW {
            self.window.drain(..self.window.len() - CONTEXT);
        }
        self.emitted = self.tokenizer.decode(&self.window)?;
        self.n_emitted = self.window.len();
        Ok(())
    }

    /// Truncates a window without a complete end; returns the invalid bytes that no further token can
    /// complete: all but the last.
    fn truncate(&mut self, text: &str) -> Result<String> {
        let open = text.strip_prefix(&self.emitted).unwrap_or("");
        let lost = open.strip_suffix(REPLACEMENT).unwrap_or(open).to_owned();
        self.window.drain(..self.window.len() - CONTEXT);
        self.n_emitted = 0;
        let context = self.tokenizer.decode(&self.window)?;
        context.strip_suffix(REPLACEMENT).unwrap_or(&context).clone_into(&mut self.emitted);
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::decoders::DecoderWrapper;
    use tokenizers::decoders::byte_fallback::ByteFallback;
    use tokenizers::decoders::byte_level::ByteLevel;
    use tokenizers::decoders::fuse::Fuse;
    use tokenizers::decoders::sequence::Sequence;
    use tokenizers::decoders::strip::Strip;
    use tokenizers::models::wordlevel::WordLevel;
    use tokenizers::normalizers::replace::Replace;

    use super::*;

    fn tokenizer(tokens: &[&str], decoder: DecoderWrapper) -> Tokenizer {
        let vocab = (0..).zip(tokens).map(|(id, token)| ((*token).to_owned(), id)).collect();
        let model = WordLevel::builder().vocab(vocab).unk_token("?".into()).build().unwrap();
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_decoder(Some(decoder));
        Tokenizer::new(inner, "test")
    }

    /// As the tokenizers of Llama 1 and 2 decode.
    fn sentence_piece(tokens: &[&str]) -> Tokenizer {
        let steps = vec![
            DecoderWrapper::Replace(Replace::new("▁", " ").unwrap()),
            DecoderWrapper::ByteFallback(ByteFallback::new()),
            DecoderWrapper::Fuse(Fuse::new()),
            DecoderWrapper::Strip(Strip::new(' ', 1, 0)),
        ];
        tokenizer(tokens, DecoderWrapper::Sequence(Sequence::new(steps)))
    }

    fn byte_level(tokens: &[&str]) -> Tokenizer {
        tokenizer(tokens, DecoderWrapper::ByteLevel(ByteLevel::default()))
    }

    /// The piece of each token, then the pending text at the end.
    fn pieces(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
        let mut stream = Detokenizer::new(tokenizer);
        let mut pieces =
            tokens.iter().map(|&token| stream.push(token).unwrap()).collect::<Vec<_>>();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn only_the_first_leading_space_is_dropped() {
        let tokenizer = sentence_piece(&["▁the", "▁", "re"]);
        assert_eq!(pieces(&tokenizer, &[0, 0, 2, 0]), ["the", " the", "re", " the", ""]);
        assert_eq!(pieces(&tokenizer, &[1, 1, 0, 1, 0]), ["", " ", " the", " ", " the", ""]);
    }

    #[test]
    fn a_long_run_of_spaces_is_kept() {
        let tokenizer = sentence_piece(&["▁the", "▁"]);
        let tokens = [vec![0], vec![1; 100], vec![0]].concat();
        assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens).unwrap());
    }

    #[test]
    fn byte_tokens_wait_for_their_character() {
        let tokenizer = sentence_piece(&["▁a", "<0xC3>", "<0xA9>", "<0x21>"]);
        assert_eq!(
            pieces(&tokenizer, &[0, 1, 2, 1, 2, 3, 0]),
            ["a", "", "é", "", "é", "!", " a", ""]
        );
    }

    #[test]
    fn an_invalid_byte_does_not_affect_other_characters() {
        let tokenizer = sentence_piece(&["▁a", "<0xC3>", "<0xA9>", "b"]);
        assert_eq!(pieces(&tokenizer, &[1, 2, 1, 3]), ["", "é", "", "\u{FFFD}b", ""]);
    }

    #[test]
    fn the_final_part_of_a_token_is_emitted_at_once() {
        // In byte-level vocabularies `Ã` is byte C3 and `©` byte A9.
        let tokenizer = byte_level(&["aÃ", "©Ã", "©"]);
        assert_eq!(pieces(&tokenizer, &[0, 1, 1, 2]), ["a", "é", "é", "é", ""]);
    }

    #[test]
    fn tokens_that_end_within_characters_are_emitted() {
        let tokenizer = byte_level(&["aÃ", "©Ã", "©"]);
        let tokens = [vec![0], vec![1; 200], vec![2]].concat();
        let pieces = pieces(&tokenizer, &tokens);
        assert_eq!(pieces.concat(), tokenizer.decode(&tokens).unwrap());
        assert!(pieces[..202].iter().all(|piece| piece.chars().count() == 1));
    }

    #[test]
    fn invalid_bytes_are_emitted_late_but_completely() {
        let tokenizer = byte_level(&["Ã", "©", "a"]);
        let tokens = [vec![0; 100], vec![1, 2]].concat();
        assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens).unwrap());
    }

    #[test]
    fn an_incomplete_character_is_emitted_at_the_end() {
        let tokenizer = byte_level(&["a", "Ã"]);
        assert_eq!(pieces(&tokenizer, &[0, 1]), ["a", "", "\u{FFFD}"]);
    }
}
