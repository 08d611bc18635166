//! Llama 3's `tokenizer.model`: one token per line, its bytes in base64 and its rank ─► [`Tokenizer`].
//!
//! The 256 special tokens are not in the file. Their names are those of Llama 3.1 and later; Llama 3.0 has
//! the same names at the ids that it uses.
//!
//! Source: `llama-models`, `models/llama3/tokenizer.py`; `transformers`,
//! `convert_slow_tokenizer.py`, `TikTokenConverter`.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::byte_level::{self, LLAMA3, PreTokenizer};
use crate::vocabulary::sentencepiece::{TieBreak, merges};
use crate::vocabulary::{TokenType, Vocabulary, invalid};

/// Number of special tokens after those of the file.
const N_SPECIAL: usize = 256;
/// Special tokens with names, by index; all others are reserved.
const NAMED: [(usize, &str); 8] = [
    (0, "<|begin_of_text|>"),
    (1, "<|end_of_text|>"),
    (4, "<|finetune_right_pad_id|>"),
    (6, "<|start_header_id|>"),
    (7, "<|end_header_id|>"),
    (8, "<|eom_id|>"),
    (9, "<|eot_id|>"),
    (10, "<|python_tag|>"),
];

/// Whether the first line of a file is base64, a space and a number.
pub(super) fn is_tiktoken(bytes: &[u8]) -> bool {
    bytes.split(|&byte| byte == b'\n').next().is_some_and(|line| parse(line).is_some())
}

pub(super) fn tokenizer(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let characters = byte_to_char();
    let mut tokens = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Some((token, rank)) = parse(line) else {
            let reason = format!("line {} is not a token in base64 and its rank", index + 1);
            return Err(invalid(path, reason));
        };
        if rank != tokens.len() {
            let expected = tokens.len();
            return Err(invalid(
                path,
                format!("line {} has rank {rank}, not {expected}", index + 1),
            ));
        }
        tokens.push(token.iter().map(|&byte| characters[byte as usize]).collect::<String>());
    }
    let n_ranks = tokens.len();
    tokens.extend(special_tokens());
    let kind = |id| if id < n_ranks { TokenType::Normal } else { TokenType::Control };
    let kinds = (0..tokens.len()).map(kind).collect();
    let vocabulary = Vocabulary::new(path, tokens.iter().map(String::as_str).collect(), kinds)?;
    // Merges are applied in order of rank.
    let scores = (0..tokens.len()).map(|rank| -(rank as f64)).collect::<Vec<_>>();
    let merges = merges(&vocabulary, &scores, TieBreak::LowerIdsFirst);
    let pre_tokenizer = PreTokenizer::Pattern(LLAMA3);
    let mut inner = byte_level::from_merges(path, &vocabulary, merges, pre_tokenizer)?;
    vocabulary.register_added_tokens(&mut inner);
    let id = |place: usize| (n_ranks + place) as u32;
    vocabulary.add_bos(id(0), &mut inner);
    let mut tokenizer = Tokenizer::new(inner, path);
    tokenizer.bos = Some(id(0));
    // <|end_of_text|>, <|eom_id|>, <|eot_id|>
    tokenizer.eos = vec![id(1), id(8), id(9)];
    Ok(tokenizer)
}

fn parse(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut parts = line.trim_ascii().splitn(2, |&byte| byte == b' ');
    let token = BASE64_STANDARD.decode(parts.next()?).ok()?;
    let rank = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    (!token.is_empty()).then_some((token, rank))
}

fn special_tokens() -> Vec<String> {
    let mut reserved = 0..;
    let token = |place: usize| match NAMED.iter().find(|(named, _)| *named == place) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("<|reserved_special_token_{}|>", reserved.next().unwrap_or_default()),
    };
    (0..N_SPECIAL).map(token).collect()
}

/// The character of each byte in byte-level tokens.
///
/// Source: `gpt-2`, `src/encoder.py`, `bytes_to_unicode`.
fn byte_to_char() -> Vec<char> {
    let is_printed = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = '\u{100}'..;
    let character = |byte: u8| {
        if is_printed(byte) { char::from(byte) } else { others.next().expect("enough characters") }
    };
    (0..=u8::MAX).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes, and five tokens that merge.
    fn file() -> String {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let merged = ["he", "ll", "hell", " w", "hello"].map(|token| token.as_bytes().to_vec());
        let lines = bytes
            .chain(merged)
            .enumerate()
            .map(|(rank, token)| format!("{} {rank}\n", BASE64_STANDARD.encode(token)));
        lines.collect()
    }

    fn built(file: &str) -> Result<Tokenizer> {
        assert!(is_tiktoken(file.as_bytes()));
        tokenizer(Path::new("tokenizer.model"), file.as_bytes())
    }

    #[test]
    fn ranks_say_what_merges_first() {
        let tokenizer = built(&file()).unwrap();
        let ids = tokenizer.encode_raw("hello w\u{e9}").unwrap();
        assert_eq!(ids, [260, 259, 0xc3, 0xa9]);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "hello w\u{e9}");
        assert_eq!(tokenizer.encode_raw("hel").unwrap(), [256, b'l'.into()]);
    }

    #[test]
    fn special_tokens_have_llama_3_names() {
        let tokenizer = built(&file()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 261 + 256);
        let names = ["<|begin_of_text|>", "<|reserved_special_token_2|>", "<|eot_id|>"];
        assert_eq!(names.map(|name| tokenizer.id(name)), [Some(261), Some(266), Some(270)]);
        assert_eq!(tokenizer.token(261 + 255).unwrap(), "<|reserved_special_token_247|>");
        assert_eq!(tokenizer.encode("h<|eot_id|>").unwrap(), [261, b'h'.into(), 270]);
        assert_eq!(tokenizer.eos, [262, 269, 270]);
    }

    #[test]
    fn broken_lines_are_named() {
        let message = |change: &str| built(&(file() + change)).unwrap_err().to_string();
        assert!(message("YQ== 300\n").contains("line 262 has rank 300, not 261"));
        assert!(message("not base64\n").contains("line 262 is not a token in base64"));
        assert!(message("YQ== 261\n").contains("tokens 97 and 261 are both \"a\""));
        assert!(!is_tiktoken(b"\x0a\x0e\x0a\x05<unk>"));
    }
}
