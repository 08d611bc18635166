//! token, token, ... ─► text that never ends inside a character
//!
//! A token's text depends on its neighbours: bytes of one character may be spread over several
//! tokens, and a leading space is dropped at the start of a text only. So a short window of tokens
//! is decoded again at every step, and what has not been given out before is the new text.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Stands for bytes that are no character, or not yet.
const BROKEN: char = char::REPLACEMENT_CHARACTER;

/// Tokens that are decoded again at most. A window longer than this holds broken bytes, or tokens
/// that each end inside a character.
const WINDOW: usize = 32;

/// Tokens that stay when a window without a clean end is cut. More than the four bytes of a
/// character, so that the open one stays whole.
const CONTEXT: usize = 8;

/// Turns the tokens of one text into pieces of text, at a cost that grows with the number of
/// tokens only.
#[derive(Debug, Clone)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    window: Vec<u32>,
    /// What was given out of the window's text.
    given: String,
    /// Tokens of the window whose text was given out to its end.
    read: usize,
}

impl<'t> Detokenizer<'t> {
    /// The start of a text. Special tokens give no text.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), given: String::new(), read: 0 }
    }

    /// The text that became certain by this token; empty inside a character.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        // Bytes at the end may be the beginning of a character.
        let certain = text.trim_end_matches(BROKEN);
        let is_clean = certain.len() == text.len();
        let piece = match certain.strip_prefix(&self.given) {
            Some(piece) => piece.to_owned(),
            // Bytes that made no character change how the ones before them decode.
            None if is_clean => self.tokenizer.decode(&self.window[self.read..])?,
            None => String::new(),
        };
        if is_clean && !piece.is_empty() {
            self.move_on()?;
            return Ok(piece);
        }
        self.given += &piece;
        if self.window.len() > WINDOW {
            return Ok(piece + &self.cut(&text)?);
        }
        Ok(piece)
    }

    /// The text that was held back because its last character never came to an end.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn finish(&mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window)?;
        let rest = match text.strip_prefix(&self.given) {
            Some(rest) => rest.to_owned(),
            None => self.tokenizer.decode(&self.window[self.read..])?,
        };
        (self.window, self.given, self.read) = (Vec::new(), String::new(), 0);
        Ok(rest)
    }

    /// Everything in the window was given out: its newest tokens become the context of the next.
    fn move_on(&mut self) -> Result<()> {
        let newest = self.tokenizer.decode(&self.window[self.read..])?;
        // A context without text, such as a lone space, would make the next token the start of a
        // text.
        if !newest.is_empty() {
            self.window.drain(..self.read);
        } else if self.window.len() > WINDOW {
            self.window.drain(..self.window.len() - CONTEXT);
        }
        self.given = self.tokenizer.decode(&self.window)?;
        self.read = self.window.len();
        Ok(())
    }

    /// Shortens a window that found no clean end and gives the broken bytes that no token to come
    /// can mend: all but the last.
    fn cut(&mut self, text: &str) -> Result<String> {
        let open = text.strip_prefix(&self.given).unwrap_or("");
        let lost = open.strip_suffix(BROKEN).unwrap_or(open).to_owned();
        self.window.drain(..self.window.len() - CONTEXT);
        self.read = 0;
        let context = self.tokenizer.decode(&self.window)?;
        context.strip_suffix(BROKEN).unwrap_or(&context).clone_into(&mut self.given);
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

    /// The piece of each token, then what is left at the end.
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
    fn a_byte_that_becomes_no_character_does_not_take_others_along() {
        let tokenizer = sentence_piece(&["▁a", "<0xC3>", "<0xA9>", "b"]);
        assert_eq!(pieces(&tokenizer, &[1, 2, 1, 3]), ["", "é", "", "\u{FFFD}b", ""]);
    }

    #[test]
    fn the_certain_part_of_a_token_comes_at_once() {
        // In byte-level vocabularies `Ã` is byte C3 and `©` byte A9.
        let tokenizer = byte_level(&["aÃ", "©Ã", "©"]);
        assert_eq!(pieces(&tokenizer, &[0, 1, 1, 2]), ["a", "é", "é", "é", ""]);
    }

    #[test]
    fn tokens_that_all_end_inside_a_character_keep_flowing() {
        let tokenizer = byte_level(&["aÃ", "©Ã", "©"]);
        let tokens = [vec![0], vec![1; 200], vec![2]].concat();
        let pieces = pieces(&tokenizer, &tokens);
        assert_eq!(pieces.concat(), tokenizer.decode(&tokens).unwrap());
        assert!(pieces[..202].iter().all(|piece| piece.chars().count() == 1));
    }

    #[test]
    fn endless_broken_bytes_come_out_late_but_completely() {
        let tokenizer = byte_level(&["Ã", "©", "a"]);
        let tokens = [vec![0; 100], vec![1, 2]].concat();
        assert_eq!(pieces(&tokenizer, &tokens).concat(), tokenizer.decode(&tokens).unwrap());
    }

    #[test]
    fn a_character_without_an_end_comes_out_at_the_end() {
        let tokenizer = byte_level(&["a", "Ã"]);
        assert_eq!(pieces(&tokenizer, &[0, 1]), ["a", "", "\u{FFFD}"]);
    }
}
