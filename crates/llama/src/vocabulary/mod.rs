//! A list of tokens and what each is for ─► parts of a tokenizer, whatever file they came from.

pub(crate) mod sentencepiece;
mod sentencepiece_file;
mod tiktoken_file;

use std::path::{Path, PathBuf};

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Longest token, in bytes. Real ones stay below 1000.
const LONGEST_TOKEN: usize = 4096;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// SentencePiece's number of a kind, which is ggml's too.
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

/// The tokens, whose ids are their places.
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokens: Vec<&'a str>,
    pub(crate) kinds: Vec<TokenKind>,
    pub(crate) ids: Vocab,
}

impl<'a> Vocabulary<'a> {
    /// Checks that every token has a kind and a text of its own.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub(crate) fn new(path: &Path, tokens: Vec<&'a str>, kinds: Vec<TokenKind>) -> Result<Self> {
        if kinds.len() != tokens.len() {
            let reason = format!("{} tokens but {} token types", tokens.len(), kinds.len());
            return Err(fail(path, reason));
        }
        let mut ids = Vocab::default();
        for (id, &token) in tokens.iter().enumerate() {
            if token.len() > LONGEST_TOKEN {
                let reason = format!("token {id} has {} bytes, too many", token.len());
                return Err(fail(path, reason));
            }
            if let Some(other) = ids.insert(token.to_owned(), id as u32) {
                return Err(fail(path, format!("tokens {other} and {id} are both {token:?}")));
            }
        }
        Ok(Self { tokens, kinds, ids })
    }

    /// Adds the tokens that are found in a text before anything else.
    pub(crate) fn add_to(&self, inner: &mut tokenizers::Tokenizer) {
        inner.add_special_tokens(&self.added(TokenKind::Control));
        inner.add_special_tokens(&self.added(TokenKind::Unknown));
        inner.add_tokens(&self.added(TokenKind::UserDefined));
    }

    fn added(&self, kind: TokenKind) -> Vec<AddedToken> {
        let of_kind = self.tokens.iter().zip(&self.kinds).filter(|(_, other)| **other == kind);
        let special = kind != TokenKind::UserDefined;
        of_kind.map(|(token, _)| AddedToken::from(*token, special).normalized(false)).collect()
    }

    /// The id that a file names as `name`, which must be a token's.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub(crate) fn check_id(&self, path: &Path, name: &str, id: usize) -> Result<u32> {
        if id >= self.tokens.len() {
            let reason = format!("{name} is {id}, but there are {} tokens", self.tokens.len());
            return Err(fail(path, reason));
        }
        Ok(id as u32)
    }

    /// Puts one token before every text.
    pub(crate) fn prepend(&self, id: u32, inner: &mut tokenizers::Tokenizer) {
        let token = self.tokens[id as usize];
        let special = SpecialToken::new("bos".into(), vec![id], vec![token.into()])
            .expect("one id and one token");
        let template = TemplateProcessing::builder()
            .try_single(vec!["bos", "$A"])
            .expect("a valid template")
            .try_pair(vec!["bos", "$A", "bos:1", "$B:1"])
            .expect("a valid template")
            .special_tokens(vec![special])
            .build()
            .expect("the template's token is given");
        inner.with_post_processor(Some(template));
    }
}

/// Reads Meta's `tokenizer.model`: SentencePiece's own file, or since Llama 3 tiktoken's.
///
/// # Errors
/// [`Error::Format`] for a file that is neither, [`Error::Tokenizer`] for one that is inconsistent
/// or of a kind that is not supported.
pub(crate) fn tokenizer_model(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Tokenizer> {
    let path = path.into();
    if tiktoken_file::looks_like(bytes) {
        tiktoken_file::tokenizer(&path, bytes)
    } else {
        sentencepiece_file::tokenizer(&path, bytes)
    }
}

/// An error about the tokenizer.
pub(crate) fn fail(path: &Path, reason: impl Into<String>) -> Error {
    Error::Tokenizer { path: path.into(), reason: reason.into() }
}
