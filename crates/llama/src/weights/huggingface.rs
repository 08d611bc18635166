//! Hugging Face's folder: `config.json`, `*.safetensors`, `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use super::assemble::disassemble;
use super::layout::{Layout, to_huggingface};
use super::{Bytes, SafetensorsFile, SafetensorsSource, TensorSource};
use crate::architecture::{self, Format};
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::Llama;

/// Reads `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`Error::Format`] for text that is no such JSON.
pub fn parse_config(path: &Path, text: &str) -> Result<LlamaConfig> {
    architecture::parse(path, text)
}

/// Safetensors files as the source of a model's weights.
#[derive(Debug)]
pub struct HuggingFaceSource {
    files: SafetensorsSource,
    layout: Layout,
}

impl HuggingFaceSource {
    /// Finds the tensors of `config` in the files. Unknown ones keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    pub fn new(files: SafetensorsSource, config: &LlamaConfig) -> Self {
        let layout = Layout::new(config, Format::HuggingFace, files.shapes());
        Self { files, layout }
    }
}

impl TensorSource for HuggingFaceSource {
    fn path(&self) -> &Path {
        self.files.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.layout.shapes
    }

    fn read(&self, name: &str) -> Result<TensorData> {
        match self.layout.place(name) {
            Some(place) => Ok(place.take(self.files.read(&place.name)?)),
            None => self.files.read(name),
        }
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
    }
}

/// Opens the weights of a folder: one file, or the shards that its index names.
///
/// # Errors
/// [`Error::NotAModel`] if there are none, [`Error::Format`] for a broken index or file.
pub fn open_weights(folder: &Path) -> Result<SafetensorsSource> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    let names = if single.exists() {
        BTreeSet::from(["model.safetensors".to_owned()])
    } else if index.exists() {
        shards(&index)?
    } else {
        return Err(Error::NotAModel {
            path: folder.into(),
            reason: "neither model.safetensors nor model.safetensors.index.json".into(),
        });
    };
    let files = names
        .iter()
        .map(|name| SafetensorsFile::new(Bytes::open(folder.join(name))?))
        .collect::<Result<Vec<_>>>()?;
    SafetensorsSource::new(folder, files)
}

/// File names of an index; anything that could lead out of the folder is refused.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(Error::read(index))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|error| Error::json(index, &error))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let leads_out = |name: &str| name.contains(['/', '\\']) || name.starts_with('.');
    if let Some(name) = names.iter().find(|name| leads_out(name) || name.is_empty()) {
        return Err(Error::Format {
            path: index.into(),
            format: "safetensors index",
            reason: format!("`{name}` is not a file name"),
        });
    }
    Ok(names)
}

/// Checks that [`save`] can say all there is to say of a model's shape.
///
/// # Errors
/// [`Error::Config`]
pub fn check_saveable(config: &LlamaConfig) -> Result<()> {
    architecture::to_json(config).map(|_| ())
}

/// Writes a model as a Hugging Face folder's `config.json` and `model.safetensors`, in bf16 or
/// f32, as transformers writes its family. Beside the model it takes the memory of the file.
///
/// # Errors
/// [`Error::Config`] for what the family's `config.json` cannot say, which quantised weights are
/// part of; [`Error::Device`], [`Error::Write`].
pub fn save(llama: &Llama, folder: &Path, precision: DType) -> Result<()> {
    let dtype = match precision {
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        other => return Err(Error::config("precision", format!("{other:?}"), "BF16 or F32")),
    };
    if llama.precision().bits().is_some() {
        let found = llama.precision().to_string();
        let expected = "f32, f16 or bf16: Hugging Face's format has no such quantised weights";
        return Err(Error::config("the precision of a model to save", found, expected));
    }
    std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let mut config_json = architecture::to_json(llama.config())?;
    let name = if precision == DType::BF16 { "bfloat16" } else { "float32" };
    config_json["torch_dtype"] = name.into();
    let parts = disassemble(llama);
    let tensors = to_huggingface(llama.config(), precision, |name| parts[name].read())?;
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        })
        .collect::<Vec<_>>();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    crate::files::write_with(&folder.join("model.safetensors"), |temporary| {
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(io::Error::other)
    })?;
    let text = serde_json::to_string_pretty(&config_json).expect("plain JSON");
    crate::files::write(&folder.join("config.json"), format!("{text}\n").as_bytes())
}
