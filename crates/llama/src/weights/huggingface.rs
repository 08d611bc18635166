//! Hugging Face's folder: `config.json`, `*.safetensors` or `pytorch_model*.bin`, `tokenizer.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use super::TensorSource;
use super::assemble::disassemble;
use super::layout::{Layout, to_huggingface};
use super::weight_files::{WeightFile, WeightFiles, equal_numbers};
use crate::architecture::{self, Format};
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::files;
use crate::model::Llama;
use crate::not_a_model::{self, no_model};

/// Reads `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`Error::Format`] for text that is no such JSON.
pub fn parse_config(path: &Path, text: &str) -> Result<LlamaConfig> {
    architecture::parse(path, text)
}

/// Files of Hugging Face's names as the source of a model's weights.
#[derive(Debug)]
pub struct HuggingFaceSource {
    files: WeightFiles,
    layout: Layout,
}

impl HuggingFaceSource {
    /// Finds the tensors of `config` in the files. Unknown ones keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    pub fn new(files: WeightFiles, config: &LlamaConfig) -> Self {
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

    fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        let whole = |name: &str| match self.layout.place(name) {
            Some(place) => {
                let shape = self.files.shapes().get(&place.name)?;
                place.is_whole(shape).then(|| place.name.clone())
            }
            None => Some(name.to_owned()),
        };
        match (whole(one), whole(other)) {
            (Some(one), Some(other)) => self.files.are_equal(&one, &other),
            _ => Ok(equal_numbers(&self.read(one)?, &self.read(other)?)),
        }
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
    }
}

/// The weights that a folder may have, the first that are there. As in transformers, safetensors
/// come before PyTorch's files, and one file before several.
pub(crate) const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Whether a folder has weights that [`open_weights`] would open.
pub(crate) fn has_weights(folder: &Path) -> bool {
    WEIGHTS.iter().any(|name| folder.join(name).exists())
}

/// Opens the weights of a folder: one file, or the shards that its index names.
///
/// # Errors
/// [`Error::NotAModel`] if there are none or a shard is missing, [`Error::AdapterAsModel`] if there
/// are only an adapter's, [`Error::Format`] for a broken index or file.
pub fn open_weights(folder: &Path) -> Result<WeightFiles> {
    let Some(name) = WEIGHTS.iter().copied().find(|name| folder.join(name).exists()) else {
        return Err(not_a_model::folder(folder));
    };
    let path = folder.join(name);
    let names = if is_index(name) { shards(&path)? } else { [name.to_owned()].into() };
    if let Some(missing) = names.iter().find(|name| !folder.join(name).exists()) {
        return Err(no_model(folder, format!("{missing} is missing, which {name} names")));
    }
    let files = names.iter().map(|name| WeightFile::open(folder.join(name)));
    WeightFiles::new(folder, files.collect::<Result<_>>()?)
}

/// Whether one of [`WEIGHTS`] is an index of shards.
pub(crate) fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// File names of an index; anything that could lead out of the folder is refused.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    parse_index(index, &files::read_text(index)?)
}

/// As [`shards`], from the text of the index.
pub(crate) fn parse_index(path: &Path, text: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index = serde_json::from_str(text).map_err(|error| Error::json(path, &error))?;
    let broken =
        |reason: String| Error::Format { path: path.into(), format: "index of weights", reason };
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let leads_out = |name: &str| name.contains(['/', '\\']) || name.starts_with('.');
    if let Some(name) = names.iter().find(|name| leads_out(name) || name.is_empty()) {
        return Err(broken(format!("`{}` is not a file name", name.escape_debug())));
    }
    if names.is_empty() {
        return Err(broken("its weight_map names no file".into()));
    }
    Ok(names)
}

/// The snapshot in a folder of the Hugging Face Hub's cache, such as `models--owner--name`: the one
/// that `refs/main` names, or the only one. `None` for a folder of another kind.
///
/// # Errors
/// [`Error::NotAModel`] where there is none, or several without a word on which.
pub fn snapshot(folder: &Path) -> Result<Option<PathBuf>> {
    let snapshots = folder.join("snapshots");
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_cache = name.starts_with("models--") || folder.join("refs").is_dir();
    if folder.join("config.json").exists() || !(is_cache && snapshots.is_dir()) {
        return Ok(None);
    }
    if let Ok(main) = std::fs::read_to_string(folder.join("refs").join("main")) {
        let main = main.trim();
        let is_name = !main.is_empty() && main.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_name && snapshots.join(main).is_dir() {
            return Ok(Some(snapshots.join(main)));
        }
    }
    let entries = std::fs::read_dir(&snapshots).map_err(Error::read(&snapshots))?;
    // A file browser leaves files of its own.
    let mut all = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(Some(only)),
        (None, _) => Err(no_model(folder, "the cache has no snapshot of it".into())),
        _ => {
            let reason = "the cache has several snapshots of it: give one of those in `snapshots`";
            Err(no_model(folder, reason.into()))
        }
    }
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
    files::write_with(&folder.join("model.safetensors"), |temporary| {
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(io::Error::other)
    })?;
    let text = serde_json::to_string_pretty(&config_json).expect("plain JSON");
    files::write(&folder.join("config.json"), format!("{text}\n").as_bytes())
}
