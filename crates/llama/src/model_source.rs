//! A model on disk or in memory: path or bytes ─► config, weights, tokenizer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use checkpoint::folder::{
    PARAMS_FILE, file_error, folder_error, has_weights, hub_cache_snapshot, only_gguf, open_weights,
};
use checkpoint::gguf::{GgufFile, Value};
use checkpoint::{
    ByteSource, FileKind, SafetensorsFile, TensorSource, UnusedSettings, WeightFiles, files,
    reject_quantized_config, reject_quantized_tensors,
};
use text::{Tokenizer, TokenizerFiles};

use crate::architecture;
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::gguf::{self, GgufSource};
use crate::model::Llama;
use crate::precision::Precision;
use crate::weights::meta::{self, MetaSource};
use crate::weights::{self, HuggingFaceSource, huggingface, resolve_tied_head};

/// A model that can be loaded. Opening it reads the config, and what the config depends on in the weights.
#[derive(Debug, Clone)]
pub struct ModelSource {
    path: PathBuf,
    config: LlamaConfig,
    /// Whether `config.tied_head` has been compared with the weights, so that loading need not.
    head_is_resolved: bool,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Folder,
    Meta(MetaSource),
    Gguf(Arc<GgufFile>),
    Embedded(EmbeddedFiles),
}

/// The files of a model in memory.
#[derive(Debug, Clone, Copy)]
struct EmbeddedFiles {
    config: &'static str,
    weights: &'static [u8],
    tokenizer: &'static [u8],
    tokenizer_config: Option<&'static str>,
}

/// Path of an embedded model, for messages.
const EMBEDDED: &str = "the built-in model";

impl ModelSource {
    /// Opens a Hugging Face folder, a model in the Hub's cache, a Meta folder, a GGUF file, the first part
    /// of a split GGUF, or a folder with a single GGUF.
    ///
    /// If the config ties the output head to the embedding and the weights contain both, they are
    /// compared ([`resolve_tied_head`]).
    ///
    /// # Errors
    /// [`checkpoint::Error::NotAModel`] or [`checkpoint::Error::AdapterAsModel`] for other paths,
    /// [`checkpoint::Error::Quantized`], [`checkpoint::Error::Placeholder`], [`checkpoint::Error::Read`],
    /// and the errors of [`huggingface::parse_config`] and [`meta::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.is_dir() {
            let snapshot = hub_cache_snapshot(&path)?;
            return Self::open_folder(snapshot.unwrap_or(path));
        }
        if !path.exists() {
            let reason = "there is no such file or folder";
            return Err(checkpoint::Error::not_a_model(path, reason).into());
        }
        match FileKind::of(&ByteSource::open(&path)?)? {
            FileKind::Gguf => Self::open_gguf(path),
            kind => Err(file_error(&path, kind).into()),
        }
    }

    fn open_gguf(path: PathBuf) -> Result<Self> {
        let file = Arc::new(GgufFile::open_all(&path)?);
        // As llama.cpp's LoRA converter writes it.
        let kind = file.metadata().get("general.type");
        if kind == Some(&Value::Text("adapter".into())) {
            return Err(checkpoint::Error::AdapterAsModel { path, base: None }.into());
        }
        let config = gguf::parse_config(&file)?;
        Ok(Self { path, config, head_is_resolved: true, origin: Origin::Gguf(file) })
    }

    fn open_folder(path: PathBuf) -> Result<Self> {
        let file = path.join("config.json");
        let has_params = path.join(PARAMS_FILE).exists();
        if !file.exists() && has_params && meta::has_shards(&path)? {
            return Self::open_meta(path);
        }
        // Repositories of GGUFs have a config.json that only names the family.
        let multiple_ggufs = if file.exists() && has_weights(&path) {
            None
        } else {
            match only_gguf(&path) {
                Ok(Some(gguf)) => return Self::open_gguf(gguf),
                Ok(None) => None,
                Err(error) => Some(error),
            }
        };
        if file.exists() {
            return match (Self::open_config(path, &file), multiple_ggufs) {
                // Not a complete config: the GGUFs are the model.
                (Err(_), Some(error)) => Err(error.into()),
                // A complete config without weights: loading reports them.
                (opened, _) => opened,
            };
        }
        match multiple_ggufs {
            Some(error) => Err(error.into()),
            None if has_params => Self::open_meta(path),
            None => Err(folder_error(&path).into()),
        }
    }

    fn open_meta(path: PathBuf) -> Result<Self> {
        let (config, source) = meta::open(&path)?;
        Ok(Self { path, config, head_is_resolved: true, origin: Origin::Meta(source) })
    }

    fn open_config(path: PathBuf, file: &Path) -> Result<Self> {
        let text = files::read_text(file)?;
        reject_quantized_config(&path, &text)?;
        let config = huggingface::parse_config(file, &text)?;
        Ok(Self::unresolved(path, config, Origin::Folder).with_resolved_head())
    }

    fn unresolved(path: PathBuf, config: LlamaConfig, origin: Origin) -> Self {
        Self { path, config, head_is_resolved: false, origin }
    }

    /// Compares the head with the embedding. Errors in the weights are left to loading: a folder without
    /// weights still has a config.
    fn with_resolved_head(mut self) -> Self {
        if self.config.tied_head
            && let Ok(weights) = self.weights()
            && let Ok(config) = resolve_tied_head(self.config.clone(), &*weights)
        {
            self.config = config;
            self.head_is_resolved = true;
        }
        self
    }

    /// A model whose files are embedded in the program with `include_str!` and `include_bytes!`.
    ///
    /// # Errors
    /// As [`huggingface::parse_config`], and [`checkpoint::Error::Quantized`]. Errors in weights and
    /// tokenizer are reported when they are loaded.
    pub fn embedded(
        config_json: &'static str,
        safetensors: &'static [u8],
        tokenizer_json: &'static [u8],
    ) -> Result<Self> {
        let path = PathBuf::from(EMBEDDED);
        reject_quantized_config(&path, config_json)?;
        let config = huggingface::parse_config(&path, config_json)?;
        let files = EmbeddedFiles {
            config: config_json,
            weights: safetensors,
            tokenizer: tokenizer_json,
            tokenizer_config: None,
        };
        Ok(Self::unresolved(path, config, Origin::Embedded(files)).with_resolved_head())
    }

    /// Adds `tokenizer_config.json`, with the chat template, to an embedded model. No effect on a model
    /// on disk.
    pub fn with_tokenizer_config(mut self, json: &'static str) -> Self {
        if let Origin::Embedded(files) = &mut self.origin {
            files.tokenizer_config = Some(json);
        }
        self
    }

    /// Path of the model, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's config.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The shards, if the model is a Meta folder.
    pub fn meta(&self) -> Option<&MetaSource> {
        if let Origin::Meta(source) = &self.origin { Some(source) } else { None }
    }

    /// The file, if the model is a GGUF.
    pub fn gguf(&self) -> Option<&GgufFile> {
        if let Origin::Gguf(file) = &self.origin { Some(file) } else { None }
    }

    /// Loads the weights in `precision`, see [`weights::load`].
    ///
    /// # Errors
    /// [`checkpoint::Error::NotAModel`] or [`checkpoint::Error::AdapterAsModel`] if there are no weights,
    /// [`checkpoint::Error::Quantized`] and [`checkpoint::Error::TensorType`] for unsupported ones,
    /// [`Error::Weights`](crate::Error::Weights) if they do not match the config,
    /// [`Error::Precision`](crate::Error::Precision), [`checkpoint::Error::Format`] or
    /// [`checkpoint::Error::Read`].
    pub fn load(&self, precision: Precision, device: &Device) -> Result<Llama> {
        let (config, source) = (self.config.clone(), self.weights()?);
        if self.head_is_resolved {
            weights::load_resolved(config, &*source, precision, device)
        } else {
            weights::load(config, &*source, precision, device)
        }
    }

    /// Precision of the large matrices in the files, see [`weights::stored_precision`].
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn stored_precision(&self) -> Result<Precision> {
        weights::stored_precision(&self.config, &*self.weights()?)
    }

    fn weights(&self) -> Result<Box<dyn TensorSource>> {
        let huggingface_source = |files: WeightFiles| -> Result<Box<dyn TensorSource>> {
            reject_quantized_tensors(&self.path, files.shapes())?;
            Ok(Box::new(HuggingFaceSource::new(files, &self.config)))
        };
        Ok(match &self.origin {
            Origin::Folder => huggingface_source(open_weights(&self.path)?)?,
            Origin::Meta(source) => Box::new(source.clone()),
            Origin::Gguf(file) => Box::new(GgufSource::new(Arc::clone(file))?),
            Origin::Embedded(files) => {
                let bytes = ByteSource::memory(&self.path, files.weights);
                let file = SafetensorsFile::new(bytes)?;
                huggingface_source(WeightFiles::new(&self.path, vec![file.into()])?)?
            }
        })
    }

    /// Loads the tokenizer with its special tokens and chat template.
    ///
    /// # Errors
    /// [`checkpoint::Error::Read`] if there is none, [`checkpoint::Error::Format`], or
    /// [`text::Error::Tokenizer`], also if BOS or EOS is outside the model's vocabulary.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut tokenizer = match &self.origin {
            Origin::Folder => Tokenizer::from_folder(&self.path)?,
            Origin::Meta(_) => Tokenizer::from_meta_folder(&self.path)?,
            Origin::Gguf(file) => Tokenizer::from_gguf(file.metadata())?,
            Origin::Embedded(files) => {
                let tokenizer = Tokenizer::from_json(&self.path, files.tokenizer)?;
                tokenizer.with_files(&self.embedded_files(files)?)
            }
        };
        tokenizer.check_vocab_size(self.config.vocab_size)?;
        Ok(tokenizer)
    }

    /// Settings in the model's files that have no effect. Files that cannot be read are skipped.
    pub fn unused_settings(&self) -> Vec<UnusedSettings> {
        let files = match &self.origin {
            Origin::Folder => TokenizerFiles::read(&self.path).ok(),
            Origin::Embedded(files) => self.embedded_files(files).ok(),
            Origin::Gguf(file) => return gguf::unused_settings(file).into_iter().collect(),
            Origin::Meta(_) => None,
        };
        let Some(files) = files else { return Vec::new() };
        let unused = files.config.as_ref().map_or_else(Vec::new, architecture::unused_keys);
        let config = UnusedSettings::new("config.json", unused);
        config.into_iter().chain(files.unused_settings(self.config.vocab_size)).collect()
    }

    fn embedded_files(&self, files: &EmbeddedFiles) -> Result<TokenizerFiles> {
        let parse = |text| TokenizerFiles::parse(&self.path, text);
        let mut parsed = TokenizerFiles::default();
        parsed.config = Some(parse(files.config)?);
        parsed.tokenizer_config = files.tokenizer_config.map(parse).transpose()?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use checkpoint::Error as FileError;

    use super::*;
    use crate::Error;

    const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;

    #[test]
    fn several_ggufs_are_an_error_only_without_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let error_message = || ModelSource::open(folder.path()).unwrap_err().to_string();
        write("a.gguf", "x");
        write("b.gguf", "x");
        let several = "it has several GGUF files, give one of them: a.gguf, b.gguf";
        assert!(error_message().ends_with(several), "{}", error_message());
        // A config with one key, as in repositories of GGUFs.
        write("config.json", r#"{"model_type": "llama"}"#);
        assert!(error_message().ends_with(several), "{}", error_message());
        // A complete config without weights.
        write("config.json", CONFIG);
        let source = ModelSource::open(folder.path()).unwrap();
        let error = source.stored_precision().unwrap_err().to_string();
        assert!(error.contains("it has no weights: none of model.safetensors"), "{error}");
        assert!(error.ends_with("give one of them: a.gguf, b.gguf"), "{error}");
        // A Meta folder: the error is about its shard.
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        write("params.json", "{}");
        assert!(error_message().ends_with(several), "{}", error_message());
        write("consolidated.00.pth", "x");
        assert!(error_message().contains("consolidated.00.pth: "), "{}", error_message());
    }

    #[test]
    fn embedded_quantized_model_is_rejected() {
        let quantized =
            r#"{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}"#;
        let error = ModelSource::embedded(quantized, b"", b"").unwrap_err().to_string();
        assert!(
            error.starts_with("the built-in model: the weights are quantized by FP8"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_weights_opens_and_does_not_load() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
        let source = ModelSource::open(folder.path()).unwrap();
        assert_eq!(source.config().head_dim, 2);
        let error = source.load(Precision::F32, &testing::flex()).unwrap_err();
        assert!(matches!(error, Error::Checkpoint(FileError::NotAModel { .. })), "{error}");
        let error = source.tokenizer().unwrap_err();
        assert!(
            matches!(error, Error::Text(text::Error::Checkpoint(FileError::Read { .. }))),
            "{error}"
        );
    }
}
