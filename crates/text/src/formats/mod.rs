//! Tokenizer files ─► [`Tokenizer`].
//!
//! ```text
//! tokenizer.json ───────────────────────────────────► tokenizers::Tokenizer ────────┐
//! tokenizer.model ─┬─ SentencePiece ─► tokens, scores ─► BPE with byte fallback ────┼─► Tokenizer
//!                  └─ tiktoken ──────► tokens, ranks ──┐                            │
//! vocab.json, merges.txt ────────────► tokens, merges ─┼─► byte-level BPE ──────────┤
//! GGUF metadata ─────────────────────► either kind ────┴────────────────────────────┘
//! ```

mod gguf;
mod sentencepiece_model;
mod tiktoken_model;
mod vocab_merges;

use std::path::{Path, PathBuf};

use checkpoint::files;

use crate::error::Result;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_files::TokenizerFiles;
use crate::vocabulary::sentencepiece::SpacePrefix;
use crate::vocabulary::{add_bos_eos, invalid};

/// The tokenizer of SentencePiece, and of tiktoken in Meta's folders.
const MODEL_FILE: &str = "tokenizer.model";

/// File names of a folder's tokenizer in order of preference; all files of a form are required.
pub const TOKENIZER_FILES: [&[&str]; 3] =
    [&["tokenizer.json"], &[MODEL_FILE], &vocab_merges::FILES];

impl Tokenizer {
    /// Reads a Hugging Face folder: `tokenizer.json`, or in its absence `tokenizer.model` or
    /// `vocab.json` with `merges.txt`, and the config files with special tokens.
    ///
    /// # Errors
    /// [`checkpoint::Error::Read`] without any of them, [`Error::Tokenizer`](crate::Error::Tokenizer) or
    /// [`checkpoint::Error::Format`] for invalid files.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let files = TokenizerFiles::read(folder)?;
        let path = folder.join("tokenizer.json");
        let model = folder.join(MODEL_FILE);
        // transformers' classes for the older forms add BOS and EOS if `tokenizer_config.json` has the flags;
        // the Llama class also adds BOS by default.
        let (tokenizer, adds_bos) = if path.exists() {
            let json = files::read(&path)?;
            return Ok(Self::from_json(&path, &json)?.with_files(&files));
        } else if model.exists() {
            let bytes = files::read(&model)?;
            let space = if files.is_legacy() { SpacePrefix::EachPart } else { SpacePrefix::Start };
            (read_model(model, &bytes, space)?, true)
        } else if vocab_merges::FILES.iter().all(|name| folder.join(name).exists()) {
            (vocab_merges::tokenizer(folder, files.class())?, false)
        } else {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(checkpoint::Error::Read { path, source }.into());
        };
        let mut tokenizer = tokenizer.with_files(&files);
        let token = |id: Option<u32>, adds: bool| {
            let id = id.filter(|_| adds)?;
            Some((id, tokenizer.token(id)?))
        };
        let bos = token(tokenizer.bos, files.flag("add_bos_token").unwrap_or(adds_bos));
        let eos = tokenizer.eos.first().copied();
        let eos = token(eos, files.flag("add_eos_token").unwrap_or(false));
        let [bos, eos] =
            [&bos, &eos].map(|end| end.as_ref().map(|(id, text)| (*id, text.as_str())));
        add_bos_eos(tokenizer.inner_mut(), bos, eos);
        Ok(tokenizer)
    }

    /// Reads `tokenizer.model` of a folder in Meta's layout, from the folder or its parent.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) without one and for an unsupported kind,
    /// [`checkpoint::Error::Format`], [`checkpoint::Error::Read`].
    pub fn from_meta_folder(folder: &Path) -> Result<Self> {
        let paths = [folder.join(MODEL_FILE), folder.join("..").join(MODEL_FILE)];
        let Some(path) = paths.iter().find(|path| path.exists()) else {
            let reason = format!("{MODEL_FILE} is neither in this folder nor in its parent");
            return Err(invalid(folder, reason));
        };
        Self::from_model(path, &files::read(path)?)
    }

    /// Reads a `tokenizer.model`: SentencePiece's format, or since Llama 3 tiktoken's.
    ///
    /// # Errors
    /// [`checkpoint::Error::Format`] for a file in neither format,
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for an inconsistent or unsupported one.
    pub fn from_model(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self> {
        read_model(path.into(), bytes, SpacePrefix::EachPart)
    }
}

fn read_model(path: PathBuf, bytes: &[u8], space: SpacePrefix) -> Result<Tokenizer> {
    if tiktoken_model::is_tiktoken(bytes) {
        tiktoken_model::tokenizer(&path, bytes)
    } else {
        sentencepiece_model::tokenizer(&path, bytes, space)
    }
}
