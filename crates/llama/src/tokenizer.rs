//! Text ─► token ids, and back, with the model's special tokens and chat template.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// A model's tokenizer and what its files say about special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// Token that some models want at the start of a text.
    pub bos: Option<u32>,
    /// Tokens that end a text; the first is the one to train with.
    pub eos: Vec<u32>,
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
        Self { inner, path: path.into(), bos: None, eos: Vec::new(), chat_template: None }
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

    /// Reads a Hugging Face folder: `tokenizer.json`, and what `config.json`,
    /// `generation_config.json` and `tokenizer_config.json` say about special tokens.
    ///
    /// # Errors
    /// [`Error::Read`] without a `tokenizer.json`, [`Error::Tokenizer`] or [`Error::Format`] for
    /// broken files.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(Error::read(&path))?;
        let mut tokenizer = Self::from_json(&path, &json)?;
        for name in ["config.json", "generation_config.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            if path.exists() {
                let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
                tokenizer.read_settings(&path, &text)?;
            }
        }
        let template = folder.join("chat_template.jinja");
        if template.exists() {
            let text = std::fs::read_to_string(&template).map_err(Error::read(&template))?;
            tokenizer.chat_template = Some(text);
        }
        Ok(tokenizer)
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` into a
    /// folder, as [`from_folder`](Self::from_folder) reads them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Write`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = self.inner.to_string(false).map_err(|error| self.failed(&error))?;
        crate::files::write(&folder.join("tokenizer.json"), json.as_bytes())?;
        let written = |ids: &[u32]| ids.first().and_then(|&id| self.token(id));
        let settings = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": written(self.bos.as_slice()),
            "eos_token": written(&self.eos),
            "chat_template": self.chat_template,
        });
        let special = serde_json::json!({ "bos_token_id": self.bos, "eos_token_id": self.eos });
        for (name, json) in
            [("tokenizer_config.json", settings), ("generation_config.json", special)]
        {
            let text = serde_json::to_string_pretty(&json).expect("plain JSON");
            crate::files::write(&folder.join(name), format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Takes special tokens and the chat template from one of a model's JSON files.
    ///
    /// # Errors
    /// [`Error::Format`]
    pub fn read_settings(&mut self, path: &Path, text: &str) -> Result<()> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::Format {
            path: path.into(),
            format: "JSON",
            reason: error.to_string(),
        })?;
        // By id: a number or a list of them. By text: a string, or an object with `content`.
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let token = |value: &Value| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            self.inner.token_to_id(text)
        };
        let ids = |by_id: &str, by_text: &str| -> Vec<u32> {
            match json.get(by_id) {
                Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
                Some(value) => id(value).into_iter().collect(),
                None => json.get(by_text).and_then(token).into_iter().collect(),
            }
        };
        let bos = ids("bos_token_id", "bos_token").first().copied();
        let eos = ids("eos_token_id", "eos_token");
        self.bos = bos.or(self.bos);
        for id in eos {
            if !self.eos.contains(&id) {
                self.eos.push(id);
            }
        }
        if let Some(template) = json.get("chat_template").and_then(chat_template) {
            self.chat_template = Some(template.into());
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

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

/// The template of a `chat_template` field: a text, or the default of a list of named ones.
fn chat_template(value: &Value) -> Option<&str> {
    match value {
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.or(list.first())?.get("template")?.as_str()
        }
        value => value.as_str(),
    }
}

#[cfg(test)]
mod tests {
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
