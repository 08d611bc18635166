//! A list of tokens and their types ─► parts of a tokenizer, independent of the file format.

pub(crate) mod byte_level;
pub(crate) mod sentencepiece;

use std::path::Path;

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use crate::error::{Error, Result};

/// Longest token, in bytes. Those of real models stay below 1000.
const MAX_TOKEN_LEN: usize = 4096;

/// Type of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    /// The type with SentencePiece's number, which ggml uses too.
    pub(crate) fn from_id(id: usize) -> Self {
        match id {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// Tokens by id.
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokens: Vec<&'a str>,
    pub(crate) types: Vec<TokenType>,
    pub(crate) ids: Vocab,
}

impl<'a> Vocabulary<'a> {
    /// Checks that every token has a type and is unique.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub(crate) fn new(path: &Path, tokens: Vec<&'a str>, types: Vec<TokenType>) -> Result<Self> {
        if types.len() != tokens.len() {
            let reason = format!("{} tokens but {} token types", tokens.len(), types.len());
            return Err(invalid(path, reason));
        }
        let mut ids = Vocab::default();
        for (id, &token) in tokens.iter().enumerate() {
            if token.len() > MAX_TOKEN_LEN {
                let reason = format!("token {id} has {} bytes, too many", token.len());
                return Err(invalid(path, reason));
            }
            if let Some(other) = ids.insert(token.to_owned(), id as u32) {
                return Err(invalid(path, format!("tokens {other} and {id} are both {token:?}")));
            }
        }
        Ok(Self { tokens, types, ids })
    }

    /// Registers control, unknown and user-defined tokens, which are matched in a text before it is split.
    pub(crate) fn register_added_tokens(&self, inner: &mut tokenizers::Tokenizer) {
        inner.add_special_tokens(&self.added_tokens(TokenType::Control));
        inner.add_special_tokens(&self.added_tokens(TokenType::Unknown));
        inner.add_tokens(&self.added_tokens(TokenType::UserDefined));
    }

    fn added_tokens(&self, token_type: TokenType) -> Vec<AddedToken> {
        let of_type =
            self.tokens.iter().zip(&self.types).filter(|(_, other)| **other == token_type);
        let special = token_type != TokenType::UserDefined;
        of_type.map(|(token, _)| AddedToken::from(*token, special).normalized(false)).collect()
    }

    /// Checks an id that a file names as `name`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub(crate) fn check_id(&self, path: &Path, name: &str, id: usize) -> Result<u32> {
        if id >= self.tokens.len() {
            let reason = format!("{name} is {id}, but there are {} tokens", self.tokens.len());
            return Err(invalid(path, reason));
        }
        Ok(id as u32)
    }

    /// Adds a BOS token to every text.
    pub(crate) fn add_bos(&self, id: u32, inner: &mut tokenizers::Tokenizer) {
        add_bos_eos(inner, Some((id, self.tokens[id as usize])), None);
    }
}

/// Adds a BOS and an EOS token, with their ids, to every text.
pub(crate) fn add_bos_eos(
    inner: &mut tokenizers::Tokenizer,
    bos: Option<(u32, &str)>,
    eos: Option<(u32, &str)>,
) {
    let ends = [("bos", bos), ("eos", eos)];
    let special = ends.iter().filter_map(|(name, token)| {
        let (id, text) = (*token)?;
        let token = SpecialToken::new((*name).into(), vec![id], vec![text.into()]);
        Some(token.expect("one id and one token"))
    });
    let mut single = vec!["$A"];
    let mut pair = vec!["$A", "$B:1"];
    if bos.is_some() {
        single.insert(0, "bos");
        pair.splice(0..1, ["bos", "$A", "bos:1"]);
    }
    if eos.is_some() {
        single.push("eos");
        pair.push("eos:1");
    }
    let template = TemplateProcessing::builder()
        .try_single(single)
        .expect("a valid template")
        .try_pair(pair)
        .expect("a valid template")
        .special_tokens(special.collect::<Vec<_>>())
        .build()
        .expect("the template's tokens are given");
    inner.with_post_processor(Some(template));
}

/// The error about a tokenizer.
pub(crate) fn invalid(path: &Path, reason: impl Into<String>) -> Error {
    Error::Tokenizer { path: path.into(), reason: reason.into() }
}
