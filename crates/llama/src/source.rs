//! a path, or bytes built into the program ─► config, weights, tokenizer

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;

use crate::architecture;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, GgufSource};
use crate::model::Llama;
use crate::precision::Precision;
use crate::settings::UnusedSettings;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_files::TokenizerFiles;
use crate::weights::meta::{self, MetaSource};
use crate::weights::{
    self, Bytes, HuggingFaceSource, SafetensorsFile, SafetensorsSource, TensorSource, huggingface,
};

/// A model that can be loaded. Opening one reads its config only.
#[derive(Debug, Clone)]
pub struct ModelSource {
    path: PathBuf,
    config: LlamaConfig,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Folder,
    Meta(MetaSource),
    Gguf(Arc<GgufFile>),
    Embedded(Embedded),
}

/// The files of a model in memory.
#[derive(Debug, Clone, Copy)]
struct Embedded {
    config: &'static str,
    weights: &'static [u8],
    tokenizer: &'static [u8],
    tokenizer_config: Option<&'static str>,
}

/// What messages call a model that is no file.
const EMBEDDED: &str = "the built-in model";

impl ModelSource {
    /// Opens a Hugging Face folder, a folder of Meta's or a `.gguf` file.
    ///
    /// # Errors
    /// [`Error::NotAModel`] for a path that is none of these, [`Error::Read`], and what
    /// [`huggingface::parse_config`] or [`meta::open`] finds wrong with the config.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.is_dir() {
            return Self::open_folder(path);
        }
        if !path.exists() {
            return Err(not_a_model(&path, "there is no such file or folder"));
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gguf") => {
                let file = Arc::new(GgufFile::open(Bytes::open(&path)?)?);
                let config = file.config()?;
                Ok(Self { path, config, place: Place::Gguf(file) })
            }
            Some("safetensors") => {
                Err(not_a_model(&path, "weights alone are no model: give their folder"))
            }
            _ => Err(not_a_model(&path, "the file is of no kind that holds a model")),
        }
    }

    fn open_folder(path: PathBuf) -> Result<Self> {
        let file = path.join("config.json");
        if !file.exists() && path.join(meta::PARAMS_FILE).exists() {
            let (config, source) = meta::open(&path)?;
            return Ok(Self { path, config, place: Place::Meta(source) });
        }
        if !file.exists() {
            return Err(not_a_model(&path, "the folder has no config.json"));
        }
        let text = std::fs::read_to_string(&file).map_err(Error::read(&file))?;
        let config = huggingface::parse_config(&file, &text)?;
        Ok(Self { path, config, place: Place::Folder })
    }

    /// A model whose files are part of the program, as `include_bytes!` gives them.
    ///
    /// # Errors
    /// As [`huggingface::parse_config`]; the weights and the tokenizer are looked at when they are
    /// loaded.
    pub fn embedded(
        config_json: &'static str,
        safetensors: &'static [u8],
        tokenizer_json: &'static [u8],
    ) -> Result<Self> {
        let path = PathBuf::from(EMBEDDED);
        let config = huggingface::parse_config(&path, config_json)?;
        let files = Embedded {
            config: config_json,
            weights: safetensors,
            tokenizer: tokenizer_json,
            tokenizer_config: None,
        };
        Ok(Self { path, config, place: Place::Embedded(files) })
    }

    /// Adds `tokenizer_config.json`, with the chat template, to an embedded model. A model on disk
    /// brings its own.
    pub fn with_tokenizer_config(mut self, json: &'static str) -> Self {
        if let Place::Embedded(files) = &mut self.place {
            files.tokenizer_config = Some(json);
        }
        self
    }

    /// Where the model is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes and arithmetic.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The weights of a folder of Meta's, whose heads are read when it is opened.
    pub fn meta(&self) -> Option<&MetaSource> {
        if let Place::Meta(source) = &self.place { Some(source) } else { None }
    }

    /// Loads the weights in `precision`, as [`weights::load`] does.
    ///
    /// # Errors
    /// [`Error::NotAModel`] if there are no weights, [`Error::Weights`] if they do not fit the
    /// config, [`Error::Format`] or [`Error::Read`].
    pub fn load(&self, precision: Precision, device: &Device) -> Result<Llama> {
        weights::load(self.config.clone(), &*self.weights()?, precision, device)
    }

    /// What the large matrices are kept in, as [`weights::stored_precision`] tells.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn stored_precision(&self) -> Result<Precision> {
        weights::stored_precision(&self.config, &*self.weights()?)
    }

    fn weights(&self) -> Result<Box<dyn TensorSource>> {
        let named = |files| -> Box<dyn TensorSource> {
            Box::new(HuggingFaceSource::new(files, &self.config))
        };
        Ok(match &self.place {
            Place::Folder => named(huggingface::open_weights(&self.path)?),
            Place::Meta(source) => Box::new(source.clone()),
            Place::Gguf(file) => Box::new(GgufSource::new(Arc::clone(file))?),
            Place::Embedded(files) => {
                let bytes = Bytes::memory(&self.path, files.weights);
                let file = SafetensorsFile::new(bytes)?;
                named(SafetensorsSource::new(&self.path, vec![file])?)
            }
        })
    }

    /// Reads the tokenizer with its special tokens and chat template.
    ///
    /// # Errors
    /// [`Error::Read`] if there is none, [`Error::Tokenizer`] or [`Error::Format`];
    /// [`Error::Tokenizer`] if texts begin or end with a token that the model does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut tokenizer = match &self.place {
            Place::Folder => Tokenizer::from_folder(&self.path)?,
            Place::Meta(_) => meta::tokenizer(&self.path)?,
            Place::Gguf(file) => file.tokenizer()?,
            Place::Embedded(files) => {
                let tokenizer = Tokenizer::from_json(&self.path, files.tokenizer)?;
                tokenizer.with_files(&self.embedded_files(files)?)
            }
        };
        tokenizer.check_fits(self.config.vocab_size)?;
        Ok(tokenizer)
    }

    /// Settings in the model's files that nothing here acts on; a file that cannot be read has
    /// none.
    pub fn unused_settings(&self) -> Vec<UnusedSettings> {
        let files = match &self.place {
            Place::Folder => TokenizerFiles::read(&self.path).ok(),
            Place::Embedded(files) => self.embedded_files(files).ok(),
            Place::Gguf(file) => return file.unused_settings().into_iter().collect(),
            Place::Meta(_) => None,
        };
        let Some(files) = files else { return Vec::new() };
        let unused = files.config.as_ref().map_or_else(Vec::new, architecture::unused_keys);
        let config = UnusedSettings::of("config.json", unused);
        config.into_iter().chain(files.unused(self.config.vocab_size)).collect()
    }

    fn embedded_files(&self, files: &Embedded) -> Result<TokenizerFiles> {
        let parse = |text| TokenizerFiles::parse(&self.path, text);
        Ok(TokenizerFiles {
            config: Some(parse(files.config)?),
            tokenizer_config: files.tokenizer_config.map(parse).transpose()?,
            ..TokenizerFiles::default()
        })
    }
}

fn not_a_model(path: &Path, reason: &str) -> Error {
    Error::NotAModel { path: path.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(path: &Path) -> String {
        match ModelSource::open(path) {
            Err(Error::NotAModel { reason, .. }) => reason,
            other => panic!("expected NotAModel, found {other:?}"),
        }
    }

    #[test]
    fn what_is_no_model_says_why() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(reason(folder.path()), "the folder has no config.json");
        assert_eq!(reason(&folder.path().join("none")), "there is no such file or folder");
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, "").unwrap();
        assert_eq!(reason(&file), "weights alone are no model: give their folder");
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, "").unwrap();
        assert_eq!(reason(&file), "the file is of no kind that holds a model");
    }

    #[test]
    fn a_folder_without_weights_opens_and_does_not_load() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let source = ModelSource::open(folder.path()).unwrap();
        assert_eq!(source.config().head_dim, 2);
        let error = source.load(Precision::F32, &testing::flex()).unwrap_err();
        assert!(matches!(error, Error::NotAModel { .. }), "{error}");
        assert!(matches!(source.tokenizer().unwrap_err(), Error::Read { .. }));
    }
}
