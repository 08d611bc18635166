//! Text ─► token ids, and back, with the model's special tokens and chat template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use checkpoint::gguf::Metadata;

use crate::error::{Error, Result};
use crate::gguf;
use crate::tokenizer_files::TokenizerFiles;
use crate::vocabulary;

/// A model's tokenizer and what its files say about special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// Token that some models want at the start of a text.
    pub bos: Option<u32>,
    /// Tokens that end an answer; the first is the one that a text to learn from ends in.
    pub eos: Vec<u32>,
    /// Texts of special tokens by transformers' names for them, such as `eos_token`, as the files
    /// beside the tokenizer have them: what a chat template sees. Empty where there are ids only,
    /// as in a GGUF.
    pub special_tokens: BTreeMap<String, String>,
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
}

impl Tokenizer {
    /// Wraps a tokenizer; `path` is what messages call it.
    ///
    /// Truncation and padding that it may bring along are switched off: a text is cut where the
    /// caller says so, never silently.
    pub fn new(mut inner: tokenizers::Tokenizer, path: impl Into<PathBuf>) -> Self {
        inner.with_padding(None);
        // Refuses strides that are too long, and here there is none.
        let _ = inner.with_truncation(None);
        Self {
            inner,
            path: path.into(),
            bos: None,
            eos: Vec::new(),
            special_tokens: BTreeMap::new(),
            chat_template: None,
        }
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn from_json(path: impl Into<PathBuf>, json: &[u8]) -> Result<Self> {
        let path = path.into();
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| Error::Tokenizer { path: path.clone(), reason: error.to_string() })?;
        Ok(Self::new(inner, path))
    }

    /// The tokenizer of a GGUF file, with its special tokens and chat template.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an unsupported or inconsistent one;
    /// [`checkpoint::Error::Format`] for missing metadata.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        gguf::tokenizer(metadata)
    }

    /// Reads a Hugging Face folder: `tokenizer.json`, or in its absence `tokenizer.model` or
    /// `vocab.json` with `merges.txt`, and what the files beside it say about special tokens.
    ///
    /// # Errors
    /// [`Error::Read`] without any of them, [`Error::Tokenizer`] or [`Error::Format`] for broken
    /// files.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        vocabulary::from_folder(folder, &TokenizerFiles::read(folder)?)
    }

    /// The tokenizer with what a model's files say beside it.
    #[must_use]
    pub fn with_files(mut self, files: &TokenizerFiles) -> Self {
        files.apply(&mut self);
        self
    }

    /// Checks that the model has the tokens that texts begin and end with. An id at which an answer
    /// would end is left out if the model can never say it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], as for such a token within a text.
    pub fn check_fits(&mut self, vocab_size: usize) -> Result<()> {
        let outside = |id: &u32| *id as usize >= vocab_size;
        let named = |name: &str| self.special_tokens.get(name).and_then(|text| self.id(text));
        let (named_bos, named_eos) = (named("bos_token"), named("eos_token"));
        // An id of a config that no text begins with does no harm.
        if !self.special_tokens.is_empty() && self.bos != named_bos {
            self.bos = self.bos.filter(|id| !outside(id));
        }
        let none_left = self.eos.iter().all(outside);
        let eos = self.eos.first().copied().filter(|id| none_left || named_eos == Some(*id));
        for (name, id) in [("bos_token", self.bos), ("eos_token", eos)] {
            if let Some(id) = id.filter(outside) {
                let text = self.token(id).map_or(String::new(), |text| format!(" `{text}`"));
                let error = Error::TokenId { id: id.into(), vocab_size };
                let reason = format!("{name}{text}: {error}");
                return Err(Error::Tokenizer { path: self.path.clone(), reason });
            }
        }
        self.eos.retain(|id| !outside(id));
        Ok(())
    }

    pub(crate) fn inner_mut(&mut self) -> &mut tokenizers::Tokenizer {
        &mut self.inner
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` into a
    /// folder, as [`from_folder`](Self::from_folder) reads them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Write`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = self.inner.to_string(false).map_err(|error| self.failed(&error))?;
        checkpoint::files::write(&folder.join("tokenizer.json"), json.as_bytes())?;
        let mut settings = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.named_token("bos_token"),
            "eos_token": self.named_token("eos_token"),
            "chat_template": self.chat_template,
        });
        for (name, text) in &self.special_tokens {
            settings[name] = text.as_str().into();
        }
        let special = serde_json::json!({ "bos_token_id": self.bos, "eos_token_id": self.eos });
        for (name, json) in
            [("tokenizer_config.json", settings), ("generation_config.json", special)]
        {
            let text = serde_json::to_string_pretty(&json).expect("plain JSON");
            checkpoint::files::write(&folder.join(name), format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Token ids of a text. Special tokens are added where the tokenizer itself adds them, such
    /// as Llama's `<s>`; those written out in the text are recognised.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// As [`encode`](Self::encode), for a text that brings its special tokens itself, as a
    /// rendered chat template does.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| self.failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| self.failed(&error))
    }

    /// The id of a token written out, such as `<|im_end|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, written out.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text of a special token, by transformers' name for it: of the files beside the
    /// tokenizer, or if they name none at all, of the ids.
    pub(crate) fn named_token(&self, name: &str) -> Option<String> {
        if !self.special_tokens.is_empty() {
            return self.special_tokens.get(name).cloned();
        }
        let id = match name {
            "bos_token" => self.bos,
            "eos_token" => self.eos.first().copied(),
            _ => None,
        };
        id.and_then(|id| self.token(id))
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn truncation_and_padding_in_the_file_are_switched_off() {
        let path = testing::golden_folder().join("../../assets/tiny-llama/tokenizer.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = Tokenizer::from_json(&path, text.as_bytes()).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
        });
        json["padding"] = serde_json::json!({
            "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<|begin|>"
        });
        let cutting = Tokenizer::from_json(&path, json.to_string().as_bytes()).unwrap();
        let text = "Ada is a farmer and works on the farm.";
        assert!(whole.encode(text).unwrap().len() > 3);
        assert_eq!(cutting.encode(text).unwrap(), whole.encode(text).unwrap());
    }
}
