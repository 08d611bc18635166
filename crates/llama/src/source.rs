//! a path, or bytes built into the program ─► config, weights, tokenizer

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use checkpoint::folder::{
    PARAMS_FILE, file_error, folder_error, has_weights, hub_cache_snapshot, only_gguf, open_weights,
};
use checkpoint::gguf::{GgufFile, Value};
use checkpoint::{
    ByteSource, FileKind, SafetensorsFile, TensorSource, UnusedSettings, WeightFiles, files,
    refuse_quantised_config, refuse_quantised_tensors,
};
use text::{Tokenizer, TokenizerFiles};

use crate::architecture;
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::gguf::{self, GgufSource};
use crate::model::Llama;
use crate::precision::Precision;
use crate::weights::meta::{self, MetaSource};
use crate::weights::{self, HuggingFaceSource, huggingface, settle_head};

/// A model that can be loaded. Opening one reads its config, and of its weights what the config leaves
/// open.
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
    /// Opens a Hugging Face folder, also one in the Hub's cache, a folder of Meta's, a GGUF file, the
    /// first of the parts of one, or a folder with one of these.
    ///
    /// Where the config ties the output head to the embedding and the weights have both, they are
    /// compared, since [`config`](Self::config) says which it is.
    ///
    /// # Errors
    /// [`checkpoint::Error::NotAModel`] and [`checkpoint::Error::AdapterAsModel`] for a path that is none of these,
    /// [`checkpoint::Error::Quantised`], [`checkpoint::Error::Placeholder`], [`checkpoint::Error::Read`], and what
    /// [`huggingface::parse_config`] or [`meta::open`] finds wrong with the config.
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
        // As llama.cpp's converter of LoRA calls what it makes.
        let kind = file.metadata().get("general.type");
        if kind == Some(&Value::Text("adapter".into())) {
            return Err(checkpoint::Error::AdapterAsModel { path, base: None }.into());
        }
        let config = gguf::parse_config(&file)?;
        Ok(Self { path, config, place: Place::Gguf(file) })
    }

    fn open_folder(path: PathBuf) -> Result<Self> {
        let file = path.join("config.json");
        let has_params = path.join(PARAMS_FILE).exists();
        if !file.exists() && has_params && meta::has_shards(&path)? {
            return Self::open_meta(path);
        }
        // Beside a GGUF lies a config.json of a line, which names the family.
        let several = if file.exists() && has_weights(&path) {
            None
        } else {
            match only_gguf(&path) {
                Ok(Some(gguf)) => return Self::open_gguf(gguf),
                Ok(None) => None,
                Err(error) => Some(error),
            }
        };
        if file.exists() {
            return match (Self::open_config(path, &file), several) {
                // No config of a model: GGUFs are all there is.
                (Err(_), Some(several)) => Err(several.into()),
                // A whole one, whose weights are missing: loading tells.
                (opened, _) => opened,
            };
        }
        match several {
            Some(error) => Err(error.into()),
            None if has_params => Self::open_meta(path),
            None => Err(folder_error(&path).into()),
        }
    }

    fn open_meta(path: PathBuf) -> Result<Self> {
        let (config, source) = meta::open(&path)?;
        Ok(Self { path, config, place: Place::Meta(source) })
    }

    fn open_config(path: PathBuf, file: &Path) -> Result<Self> {
        let text = files::read_text(file)?;
        refuse_quantised_config(&path, &text)?;
        let config = huggingface::parse_config(file, &text)?;
        Ok(Self { path, config, place: Place::Folder }.with_head())
    }

    /// The config's word on the head, held against the weights. What else is wrong with them, loading
    /// tells: a folder without weights has a config all the same.
    fn with_head(mut self) -> Self {
        if self.config.tied_head
            && let Ok(weights) = self.weights()
            && let Ok(config) = settle_head(self.config.clone(), &*weights)
        {
            self.config = config;
        }
        self
    }

    /// A model whose files are part of the program, as `include_bytes!` gives them.
    ///
    /// # Errors
    /// As [`huggingface::parse_config`], and [`checkpoint::Error::Quantised`]; the weights and the tokenizer are
    /// looked at when they are loaded.
    pub fn embedded(
        config_json: &'static str,
        safetensors: &'static [u8],
        tokenizer_json: &'static [u8],
    ) -> Result<Self> {
        let path = PathBuf::from(EMBEDDED);
        refuse_quantised_config(&path, config_json)?;
        let config = huggingface::parse_config(&path, config_json)?;
        let files = Embedded {
            config: config_json,
            weights: safetensors,
            tokenizer: tokenizer_json,
            tokenizer_config: None,
        };
        Ok(Self { path, config, place: Place::Embedded(files) }.with_head())
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

    /// The GGUF file that the model is, whose header is read when it is opened.
    pub fn gguf(&self) -> Option<&GgufFile> {
        if let Place::Gguf(file) = &self.place { Some(file) } else { None }
    }

    /// Loads the weights in `precision`, as [`weights::load`] does.
    ///
    /// # Errors
    /// [`checkpoint::Error::NotAModel`] or [`checkpoint::Error::AdapterAsModel`] if there are no weights,
    /// [`checkpoint::Error::Quantised`] and [`checkpoint::Error::TensorType`] for those in forms that are not read,
    /// [`crate::Error::Weights`] if they do not fit the config, [`checkpoint::Error::Format`] or [`checkpoint::Error::Read`].
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
        let named = |files: WeightFiles| -> Result<Box<dyn TensorSource>> {
            refuse_quantised_tensors(&self.path, files.shapes())?;
            Ok(Box::new(HuggingFaceSource::new(files, &self.config)))
        };
        Ok(match &self.place {
            Place::Folder => named(open_weights(&self.path)?)?,
            Place::Meta(source) => Box::new(source.clone()),
            Place::Gguf(file) => Box::new(GgufSource::new(Arc::clone(file))?),
            Place::Embedded(files) => {
                let bytes = ByteSource::memory(&self.path, files.weights);
                let file = SafetensorsFile::new(bytes)?;
                named(WeightFiles::new(&self.path, vec![file.into()])?)?
            }
        })
    }

    /// Reads the tokenizer with its special tokens and chat template.
    ///
    /// # Errors
    /// [`checkpoint::Error::Read`] if there is none, [`text::Error::Tokenizer`] or [`checkpoint::Error::Format`];
    /// [`text::Error::Tokenizer`] if texts begin or end with a token that the model does not have.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let mut tokenizer = match &self.place {
            Place::Folder => Tokenizer::from_folder(&self.path)?,
            Place::Meta(_) => Tokenizer::from_meta_folder(&self.path)?,
            Place::Gguf(file) => Tokenizer::from_gguf(file.metadata())?,
            Place::Embedded(files) => {
                let tokenizer = Tokenizer::from_json(&self.path, files.tokenizer)?;
                tokenizer.with_files(&self.embedded_files(files)?)
            }
        };
        tokenizer.check_vocab_size(self.config.vocab_size)?;
        Ok(tokenizer)
    }

    /// Settings in the model's files that nothing here acts on; a file that cannot be read has
    /// none.
    pub fn unused_settings(&self) -> Vec<UnusedSettings> {
        let files = match &self.place {
            Place::Folder => TokenizerFiles::read(&self.path).ok(),
            Place::Embedded(files) => self.embedded_files(files).ok(),
            Place::Gguf(file) => return gguf::unused_settings(file).into_iter().collect(),
            Place::Meta(_) => None,
        };
        let Some(files) = files else { return Vec::new() };
        let unused = files.config.as_ref().map_or_else(Vec::new, architecture::unused_keys);
        let config = UnusedSettings::new("config.json", unused);
        config.into_iter().chain(files.unused_settings(self.config.vocab_size)).collect()
    }

    fn embedded_files(&self, files: &Embedded) -> Result<TokenizerFiles> {
        let parse = |text| TokenizerFiles::parse(&self.path, text);
        let mut parsed = TokenizerFiles::default();
        parsed.config = Some(parse(files.config)?);
        parsed.tokenizer_config = files.tokenizer_config.map(parse).transpose()?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;

    #[test]
    fn of_several_ggufs_the_one_to_open_is_asked_for_only_where_nothing_else_is_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let told = || ModelSource::open(folder.path()).unwrap_err().to_string();
        write("a.gguf", "x");
        write("b.gguf", "x");
        let several = "it has several, give one of them: a.gguf, b.gguf";
        assert!(told().ends_with(several), "{}", told());
        // Of a line, as it lies beside GGUFs.
        write("config.json", r#"{"model_type": "llama"}"#);
        assert!(told().ends_with(several), "{}", told());
        // Of a model without its weights.
        write("config.json", CONFIG);
        let source = ModelSource::open(folder.path()).unwrap();
        let error = source.stored_precision().unwrap_err().to_string();
        assert!(error.contains("it has no weights: none of model.safetensors"), "{error}");
        assert!(error.ends_with("give one of them: a.gguf, b.gguf"), "{error}");
        // Meta's: the error is about its shard.
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        write("params.json", "{}");
        assert!(told().ends_with(several), "{}", told());
        write("consolidated.00.pth", "x");
        assert!(told().contains("consolidated.00.pth: "), "{}", told());
    }

    #[test]
    fn what_is_quantised_is_refused_in_a_program_too() {
        let quantised =
            r#"{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}"#;
        let error = ModelSource::embedded(quantised, b"", b"").unwrap_err().to_string();
        assert!(
            error.starts_with("the built-in model: the weights are quantised by FP8"),
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
        assert!(matches!(error, Error::Checkpoint(checkpoint::Error::NotAModel { .. })), "{error}");
        let error = source.tokenizer().unwrap_err();
        assert!(
            matches!(error, Error::Text(text::Error::Checkpoint(checkpoint::Error::Read { .. }))),
            "{error}"
        );
    }
}
