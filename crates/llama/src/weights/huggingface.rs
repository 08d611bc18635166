//! Hugging Face's folder: `config.json`, `*.safetensors` or `pytorch_model*.bin`, `tokenizer.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::{TensorSource, WeightFiles, equal_values, files};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::assemble::disassemble;
use super::layout::{Layout, to_huggingface};
use crate::architecture;
use crate::config::{Format, LlamaConfig};
use crate::error::{Error, Result};
use crate::model::Llama;

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

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        match self.layout.place(name) {
            Some(place) => Ok(place.take(self.files.read(&place.name)?)),
            None => self.files.read(name),
        }
    }

    fn are_equal(&self, one: &str, other: &str) -> checkpoint::Result<bool> {
        let whole = |name: &str| match self.layout.place(name) {
            Some(place) => {
                let shape = self.files.shapes().get(&place.name)?;
                place.is_whole(shape).then(|| place.name.clone())
            }
            None => Some(name.to_owned()),
        };
        match (whole(one), whole(other)) {
            (Some(one), Some(other)) => self.files.are_equal(&one, &other),
            _ => Ok(equal_values(&self.read(one)?, &self.read(other)?)),
        }
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
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
/// [`Error::Config`] for what the family's `config.json` cannot say, which quantized weights are
/// part of; [`Error::Device`], [`Error::Write`].
pub fn save(llama: &Llama, folder: &Path, precision: DType) -> Result<()> {
    let dtype = match precision {
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        other => return Err(Error::config("precision", format!("{other:?}"), "BF16 or F32")),
    };
    if llama.precision().bits().is_some() {
        let found = llama.precision().to_string();
        let expected = "f32, f16 or bf16: Hugging Face's format has no such quantized weights";
        return Err(Error::config("the precision of a model to save", found, expected));
    }
    std::fs::create_dir_all(folder).map_err(checkpoint::Error::write(folder))?;
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
    files::write(&folder.join("config.json"), format!("{text}\n").as_bytes())?;
    Ok(())
}
