//! Bytes of single tokens: part of a character, a character or several.
//!
//! The text of several tokens is not always the sum of their texts: a character may span tokens, and a leading
//! space may be dropped at the start of a text. Their bytes always add up.

use tokenizers::decoders::DecoderWrapper;

use crate::tokenizer::Tokenizer;

/// Represents a space in SentencePiece's tokens.
const SPACE: &str = "▁";

/// How a tokenizer writes bytes in its tokens, as its decoder reads them.
#[derive(Debug, Clone, Copy, Default)]
struct ByteNotation {
    /// Each character is a byte, in GPT-2's alphabet.
    byte_level: bool,
    /// `<0x0A>` is a byte.
    byte_fallback: bool,
    /// `▁` is a space.
    metaspace: bool,
}

impl Tokenizer {
    /// Bytes that a token adds to a text; `None` for an id without a token. The bytes of a special token are
    /// those of its name, such as `<|im_end|>`.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.token(id)?;
        let inner = self.inner();
        let added = inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id);
        let notation = inner.get_decoder().map_or_else(ByteNotation::default, ByteNotation::new);
        Some(if added { token.into_bytes() } else { notation.bytes(&token) })
    }
}

impl ByteNotation {
    fn new(decoder: &DecoderWrapper) -> Self {
        let mut notation = Self::default();
        notation.add(decoder);
        notation
    }

    fn add(&mut self, decoder: &DecoderWrapper) {
        match decoder {
            DecoderWrapper::Sequence(parts) => {
                parts.get_decoders().iter().for_each(|part| self.add(part));
            }
            DecoderWrapper::ByteLevel(_) => self.byte_level = true,
            DecoderWrapper::ByteFallback(_) => self.byte_fallback = true,
            // Decoders replace nothing else.
            DecoderWrapper::Metaspace(_) | DecoderWrapper::Replace(_) => self.metaspace = true,
            _ => {}
        }
    }

    fn bytes(self, token: &str) -> Vec<u8> {
        if self.byte_level
            && let Some(bytes) = token.chars().map(byte_of_char).collect()
        {
            return bytes;
        }
        if self.byte_fallback
            && let Some(byte) = fallback_byte(token)
        {
            return vec![byte];
        }
        if self.metaspace { token.replace(SPACE, " ").into_bytes() } else { token.into() }
    }
}

/// The byte that a character of GPT-2's alphabet stands for: printable characters of Latin-1 for themselves,
/// and those from U+0100 on for the other bytes in ascending order.
///
/// Source: `bytes_to_unicode` in `encoder.py` of GPT-2.
fn byte_of_char(character: char) -> Option<u8> {
    let byte = match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => code,
        code @ 0x100..=0x120 => code - 0x100,
        code @ 0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte of a token such as `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_byte.then(|| u8::from_str_radix(digits, 16).expect("two hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    fn built_in() -> Tokenizer {
        let path =
            testing::golden_folder().join("../../crates/built-in/assets/tiny-llama/tokenizer.json");
        Tokenizer::from_json(&path, &std::fs::read(&path).unwrap()).unwrap()
    }

    #[test]
    fn every_byte_has_its_character() {
        let mut bytes = ByteLevel::alphabet().into_iter().map(|c| byte_of_char(c).unwrap());
        let mut seen = [false; 256];
        bytes.by_ref().for_each(|byte| seen[usize::from(byte)] = true);
        assert_eq!(seen, [true; 256]);
        // Spaces and line feeds, as they are in every byte-level vocabulary.
        assert_eq!([byte_of_char('Ġ'), byte_of_char('Ċ')], [Some(b' '), Some(b'\n')]);
        assert_eq!(byte_of_char('\u{144}'), None);
    }

    #[test]
    fn bytes_of_the_tokens_add_up_to_the_text() {
        let tokenizer = built_in();
        let text = "Ada lives in Zürich — 世界 🦙\n\t<0x0A>";
        let tokens = tokenizer.encode_raw(text).unwrap();
        let bytes = tokens.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap());
        assert_eq!(bytes.collect::<Vec<_>>(), text.as_bytes());
    }

    #[test]
    fn sentencepiece_tokens_have_spaces_and_bytes() {
        let notation = ByteNotation { byte_fallback: true, metaspace: true, byte_level: false };
        for (token, expected) in [
            ("▁the", b" the".to_vec()),
            ("<0xE2>", vec![0xE2]),
            ("<0xE>", b"<0xE>".to_vec()),
            ("<0x+1>", b"<0x+1>".to_vec()),
            ("é", "é".into()),
        ] {
            assert_eq!(notation.bytes(token), expected, "{token}");
        }
    }

    #[test]
    fn special_tokens_have_the_bytes_of_their_names() {
        let tokenizer = built_in();
        let id = tokenizer.id("<|begin|>").unwrap();
        assert_eq!(tokenizer.token_bytes(id).unwrap(), b"<|begin|>");
    }

    #[test]
    fn an_id_without_a_token_has_no_bytes() {
        assert_eq!(built_in().token_bytes(1 << 30), None);
    }
}
