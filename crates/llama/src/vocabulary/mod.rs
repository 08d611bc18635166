//! A list of tokens and what each is for ─► parts of a tokenizer, whatever file they came from.

pub(crate) mod sentencepiece;
mod sentencepiece_file;
mod tiktoken_file;
pub(crate) mod vocab_merges;

use std::path::{Path, PathBuf};

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer_files::TokenizerFiles;
use checkpoint::files;
use sentencepiece::SpacePrefix;

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
        frame(inner, Some((id, self.tokens[id as usize])), None);
    }
}

/// Puts one token before every text, and one behind it.
fn frame(inner: &mut tokenizers::Tokenizer, bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) {
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

/// Reads the tokenizer of a Hugging Face folder: its `tokenizer.json`, or in its absence an older
/// form, whose class in transformers puts a token before every text, or behind it, where
/// `tokenizer_config.json` says so; before a Llama's also where it says nothing.
///
/// # Errors
/// [`Error::Read`] if there is none, or as the readers of the forms.
pub(crate) fn from_folder(folder: &Path, files: &TokenizerFiles) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    let model = folder.join("tokenizer.model");
    let (tokenizer, adds_bos) = if path.exists() {
        let json = files::read(&path)?;
        return Ok(Tokenizer::from_json(&path, &json)?.with_files(files));
    } else if model.exists() {
        let bytes = files::read(&model)?;
        let space = if files.is_legacy() { SpacePrefix::EachPart } else { SpacePrefix::Start };
        (read_model(model, &bytes, space)?, true)
    } else if vocab_merges::FILES.iter().all(|name| folder.join(name).exists()) {
        (vocab_merges::tokenizer(folder, files.class())?, false)
    } else {
        let none = std::io::ErrorKind::NotFound.into();
        return Err(checkpoint::Error::Read { path, source: none }.into());
    };
    let mut tokenizer = tokenizer.with_files(files);
    let token = |id: Option<u32>, adds: bool| {
        let id = id.filter(|_| adds)?;
        Some((id, tokenizer.token(id)?))
    };
    let bos = token(tokenizer.bos, files.adds("add_bos_token").unwrap_or(adds_bos));
    let eos = tokenizer.eos.first().copied();
    let eos = token(eos, files.adds("add_eos_token").unwrap_or(false));
    let [bos, eos] = [&bos, &eos].map(|end| end.as_ref().map(|(id, text)| (*id, text.as_str())));
    frame(tokenizer.inner_mut(), bos, eos);
    Ok(tokenizer)
}

/// Reads Meta's `tokenizer.model`: SentencePiece's own file, or since Llama 3 tiktoken's.
///
/// # Errors
/// [`Error::Format`] for a file that is neither, [`Error::Tokenizer`] for one that is inconsistent
/// or of a kind that is not supported.
pub(crate) fn tokenizer_model(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Tokenizer> {
    read_model(path.into(), bytes, SpacePrefix::EachPart)
}

fn read_model(path: PathBuf, bytes: &[u8], space: SpacePrefix) -> Result<Tokenizer> {
    if tiktoken_file::looks_like(bytes) {
        tiktoken_file::tokenizer(&path, bytes)
    } else {
        sentencepiece_file::tokenizer(&path, bytes, space)
    }
}

/// An error about the tokenizer.
pub(crate) fn fail(path: &Path, reason: impl Into<String>) -> Error {
    Error::Tokenizer { path: path.into(), reason: reason.into() }
}
