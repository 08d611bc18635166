//! Saving a model as a Hugging Face folder.

use std::io;
use std::path::Path;

use burn::tensor::DType;
use checkpoint::files;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};

use crate::architecture;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::weights::named_tensors::named_tensors;
use crate::weights::tensor_layout::to_huggingface;

/// Checks that the family's `config.json` can express a config, as [`save`] requires.
///
/// # Errors
/// [`Error::Config`] for the first setting that it cannot express.
pub fn check_saveable(config: &LlamaConfig) -> Result<()> {
    architecture::to_json(config).map(|_| ())
}

/// Writes `config.json` and `model.safetensors` of a Hugging Face folder, in bf16 or f32, as
/// transformers writes models of the family. It needs memory for a copy of the file.
///
/// # Errors
/// [`Error::Config`] for settings that the family's `config.json` cannot express and for quantized
/// weights; [`Error::Device`], [`checkpoint::Error::Write`].
pub fn save(llama: &Llama, folder: &Path, precision: DType) -> Result<()> {
    let dtype = match precision {
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        other => return Err(Error::config("precision", format!("{other:?}"), "BF16 or F32")),
    };
    if llama.precision().bits().is_some() {
        let found = llama.precision().to_string();
        let expected =
            "f32, f16 or bf16: quantized weights cannot be saved in Hugging Face's format";
        return Err(Error::config("the precision of a model to save", found, expected));
    }
    std::fs::create_dir_all(folder).map_err(checkpoint::Error::write(folder))?;
    let mut config_json = architecture::to_json(llama.config())?;
    let name = if precision == DType::BF16 { "bfloat16" } else { "float32" };
    config_json["torch_dtype"] = name.into();
    let model_tensors = named_tensors(llama);
    let tensors = to_huggingface(llama.config(), precision, |name| model_tensors[name].read())?;
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                .expect("the bytes match the shape");
            (name.as_str(), view)
        })
        .collect::<Vec<_>>();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    files::write_with(&folder.join("model.safetensors"), |temporary| {
        let written = safetensors::serialize_to_file(views, Some(metadata), temporary);
        written.map_err(|error| match error {
            // Its kind, such as a full disk, determines the advice.
            SafeTensorError::IoError(error) => error,
            other => io::Error::other(other),
        })
    })?;
    let text = serde_json::to_string_pretty(&config_json).expect("plain JSON");
    files::write(&folder.join("config.json"), format!("{text}\n").as_bytes())?;
    Ok(())
}
