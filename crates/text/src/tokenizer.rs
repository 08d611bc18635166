//! Text ◄─► token ids, with the model's special tokens and chat template.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use checkpoint::files;
use tokenizers::Offsets;

use crate::error::{Error, Result};

/// A model's tokenizer, its special tokens and its chat template.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// Beginning-of-sequence token, if the model has one.
    pub bos: Option<u32>,
    /// End-of-sequence tokens: each of them ends a completion; the first ends a training example.
    pub eos: Vec<u32>,
    /// Special tokens by transformers' names, such as `eos_token`, from the config files: the variables of
    /// a chat template. Empty where there are only ids, as in a GGUF.
    pub special_tokens: BTreeMap<String, String>,
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
}

impl Tokenizer {
    /// Wraps a tokenizer; `path` is its name in messages.
    ///
    /// Truncation and padding of the tokenizer are disabled.
    pub fn new(mut inner: tokenizers::Tokenizer, path: impl Into<PathBuf>) -> Self {
        inner.with_padding(None);
        // Fails only for a stride that is too long.
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

    /// Checks that BOS and EOS are in a vocabulary of this size. Further end-of-sequence ids outside of it
    /// are removed.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn check_vocab_size(&mut self, vocab_size: usize) -> Result<()> {
        let outside = |id: &u32| *id as usize >= vocab_size;
        let named = |name: &str| self.special_tokens.get(name).and_then(|text| self.id(text));
        let (named_bos, named_eos) = (named("bos_token"), named("eos_token"));
        // An id of a config file that is never added to a text is ignored.
        if !self.special_tokens.is_empty() && self.bos != named_bos {
            self.bos = self.bos.filter(|id| !outside(id));
        }
        let none_left = self.eos.iter().all(outside);
        let eos = self.eos.first().copied().filter(|id| none_left || named_eos == Some(*id));
        for (name, id) in [("bos_token", self.bos), ("eos_token", eos)] {
            if let Some(id) = id.filter(outside) {
                let text = self.token(id).map_or(String::new(), |text| format!(" `{text}`"));
                let reason = format!(
                    "{name}{text}: token id {id} is outside the vocabulary of {vocab_size} tokens"
                );
                return Err(Error::Tokenizer { path: self.path.clone(), reason });
            }
        }
        self.eos.retain(|id| !outside(id));
        Ok(())
    }

    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    pub(crate) fn inner_mut(&mut self) -> &mut tokenizers::Tokenizer {
        &mut self.inner
    }

    /// The content of a `tokenizer.json`, without the names of special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|error| self.failed(&error))
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` into a
    /// folder, as [`from_folder`](Self::from_folder) reads them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`checkpoint::Error::Write`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = self.to_json()?;
        files::write(&folder.join("tokenizer.json"), json.as_bytes())?;
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
            files::write(&folder.join(name), format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Token ids of a text, with the special tokens that the tokenizer adds, such as Llama's `<s>`. Special
    /// tokens within the text are recognized.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// As [`encode`](Self::encode), without adding special tokens: for a rendered chat template, which
    /// contains them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    /// As [`encode_raw`](Self::encode_raw), with the bytes of the text that each token stands for.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn encode_raw_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Offsets>)> {
        let encoding = self.inner.encode(text, false).map_err(|error| self.failed(&error))?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    /// The tokens that stand for themselves in a text, such as `<|im_end|>`: never for a part of a word.
    pub fn added_tokens(&self) -> BTreeSet<u32> {
        self.inner.get_added_tokens_decoder().into_keys().collect()
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| self.failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of token ids, without special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| self.failed(&error))
    }

    /// Id of a token, such as `<|im_end|>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// A special token by transformers' name: from the config files, or if they have none at all, from the
    /// ids.
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

    /// Number of tokens, including special tokens.
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
    fn truncation_and_padding_of_the_file_are_disabled() {
        let path =
            testing::golden_folder().join("../../crates/built-in/assets/tiny-llama/tokenizer.json");
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
        let truncating = Tokenizer::from_json(&path, json.to_string().as_bytes()).unwrap();
        let text = "Ada is a farmer and works on the farm.";
        assert!(whole.encode(text).unwrap().len() > 3);
        assert_eq!(truncating.encode(text).unwrap(), whole.encode(text).unwrap());
    }
}
