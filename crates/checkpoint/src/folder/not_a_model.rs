//! A path without a model's checkpoint ─► an error that states what it is.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::index::{WEIGHT_FILES, has_weights};
use crate::error::{Error, Result};
use crate::file_kind::FileKind;
use crate::gguf::is_later_part;
use crate::weight_files::WeightFile;

/// Config of a folder in Meta's layout.
pub const PARAMS_FILE: &str = "params.json";
/// Configs of an adapter's folder, of PEFT and of llama-adapter.
const ADAPTER_SETTINGS: [&str; 2] = ["adapter_config.json", "llama_adapter.json"];
/// Suffix of litgpt's adapter files.
const LITGPT_ADAPTER: &str = ".pth.adapter";
/// Reason for litgpt's models.
const LITGPT_MODEL: &str =
    "litgpt models are not supported: give the Hugging Face folder that it was converted from";
/// Weight files of other frameworks, which are not supported.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("tf_model.h5", "TensorFlow"),
    ("flax_model.msgpack", "Flax"),
    ("model.onnx", "ONNX"),
    ("rust_model.ot", "rust-bert"),
    ("consolidated.safetensors", "Mistral's original format"),
];
/// Substrings of the tensor names of adapters, in all their formats.
const ADAPTER_TENSORS: [&str; 7] = [
    "adaption_prompt",
    "adaption_gate",
    "adapter_query",
    "adapter_wte",
    "gating_factor",
    ".lora_A.",
    ".lora_B.",
];

/// The only GGUF file of a folder, or the first part of a split one. Image encoders of llama.cpp (`mmproj*`)
/// are ignored.
///
/// # Errors
/// [`Error::NotAModel`] if there are several; [`Error::Read`].
pub fn only_gguf(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = names(folder)?;
    found.retain(|name| is_gguf(name));
    // Without the first part of a split file, opening any other gives the error.
    if found.iter().any(|name| !is_later_part(name)) {
        found.retain(|name| !is_later_part(name));
    } else {
        found.truncate(1);
    }
    match &found[..] {
        [] => Ok(None),
        [only] => Ok(Some(folder.join(only))),
        several => Err(Error::not_a_model(
            folder,
            format!("it has several GGUF files, give one of them: {}", several.join(", ")),
        )),
    }
}

fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "gguf")
        && !name.starts_with("mmproj")
}

/// The error for a folder without `config.json` or without weights.
pub fn folder_error(path: &Path) -> Error {
    let names = names(path).unwrap_or_default();
    let has = |name: &str| names.iter().any(|other| other == name);
    let find = |test: &dyn Fn(&str) -> bool| names.iter().find(|name| test(name));
    if has_weights(path) {
        return Error::not_a_model(path, without_config(&names));
    }
    if let Some(settings) = ADAPTER_SETTINGS.iter().find(|name| has(name)) {
        return adapter(path, Some(&path.join(settings)));
    }
    if find(&|name| name.ends_with(LITGPT_ADAPTER)).is_some() {
        return adapter(path, None);
    }
    let reason = if has("lit_model.pth") {
        LITGPT_MODEL.into()
    } else if let Some((name, format)) = UNSUPPORTED.iter().find(|(name, _)| has(name)) {
        format!("its weights are in an unsupported format: {format} ({name})")
    } else if !has("config.json") {
        without_config(&names)
    } else if let Some(part) = find(&is_shard) {
        format!(
            "it has {part}, but no index of shards ({} or {})",
            WEIGHT_FILES[1], WEIGHT_FILES[3]
        )
    } else {
        let ggufs = names.iter().filter(|name| is_gguf(name)).cloned().collect::<Vec<_>>();
        let ggufs = match &ggufs[..] {
            [] => String::new(),
            ggufs => format!("; it has GGUF files, give one of them: {}", ggufs.join(", ")),
        };
        format!("it has no weights: none of {}{ggufs}", WEIGHT_FILES.join(", "))
    };
    Error::not_a_model(path, reason)
}

/// Whether a file has the name of a Hugging Face shard.
fn is_shard(name: &str) -> bool {
    ["model-", "pytorch_model-"].iter().any(|start| name.starts_with(start))
        && [".safetensors", ".bin"].iter().any(|end| name.ends_with(end))
}

/// The reason for a folder with these files and without `config.json`.
fn without_config(names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|other| other == name);
    let find = |test: &dyn Fn(&str) -> bool| names.iter().find(|name| test(name));
    let is_weights = |name: &str| {
        let extension = Path::new(name).extension().and_then(OsStr::to_str);
        extension == Some("safetensors")
            || extension == Some("bin") && name.starts_with("pytorch_model")
    };
    if let Some(shard) = find(&|name| name.starts_with("consolidated.")) {
        format!("it has Meta's {shard} without {PARAMS_FILE}")
    } else if let Some(weights) = find(&is_weights) {
        format!("it has {weights}, but no config.json")
    } else if let Some(name) = find(&|name| name.starts_with("models--")) {
        format!("it is a cache of models: give the folder of a model, such as {name}")
    } else if has("snapshots") {
        "its snapshot has no config.json".into()
    } else if let Some(name) = find(&|name| name.starts_with("tokenizer.")) {
        format!("it has a tokenizer, {name}, but no config.json and no weights")
    } else {
        "the folder has no config.json".into()
    }
}

/// The error for a file of this kind, which is not GGUF.
pub fn file_error(path: &Path, kind: FileKind) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_weights = matches!(kind, FileKind::Safetensors | FileKind::Torch);
    if !is_weights {
        let reason = match &*name {
            "config.json" | PARAMS_FILE => "a config is not a model: give its folder",
            name if ADAPTER_SETTINGS.contains(&name) => return adapter(path, Some(path)),
            _ if name.ends_with(".index.json") => "an index is not a model: give its folder",
            _ if name.starts_with("tokenizer") => "a tokenizer is not a model: give its folder",
            _ if name.ends_with(".safetensors") => {
                "weights without a config are not a model: give their folder"
            }
            _ => "unknown file format",
        };
        return Error::not_a_model(path, reason);
    }
    let tensors = match WeightFile::open(path) {
        Ok(file) => file.shapes(),
        Err(error) => return error,
    };
    let any = |part: &str| tensors.keys().any(|name| name.contains(part));
    if ADAPTER_TENSORS.iter().any(|part| any(part)) {
        return adapter(path, None);
    }
    let reason = if any("tok_embeddings.weight") {
        format!("it is one of Meta's shards: give its folder, with {PARAMS_FILE}")
    } else if any("transformer.wte.weight") && any("attn.qkv.weight") {
        LITGPT_MODEL.into()
    } else if path.with_file_name("config.json").exists() {
        "weights without a config are not a model: give their folder, which has a config.json"
            .into()
    } else {
        "weights without a config are not a model: give a folder with their config.json".into()
    };
    Error::not_a_model(path, reason)
}

/// The error for an adapter, with the base model of its config.
fn adapter(path: &Path, settings: Option<&Path>) -> Error {
    let text = settings.and_then(|settings| fs::read_to_string(settings).ok());
    let json = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let base =
        json.and_then(|json| Some(json.get("base_model_name_or_path")?.as_str()?.to_owned()));
    Error::AdapterAsModel { path: path.into(), base: base.filter(|base| !base.is_empty()) }
}

/// File names of a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::read(folder))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_may_have_one_gguf_file() {
        let folder = tempfile::tempdir().unwrap();
        let add = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        assert_eq!(only_gguf(folder.path()).unwrap(), None);
        add("m-00002-of-00002.gguf");
        assert!(only_gguf(folder.path()).unwrap().unwrap().ends_with("m-00002-of-00002.gguf"));
        add("m-00001-of-00002.gguf");
        add("mmproj-f16.gguf");
        assert!(only_gguf(folder.path()).unwrap().unwrap().ends_with("m-00001-of-00002.gguf"));
        add("other.gguf");
        assert!(matches!(only_gguf(folder.path()), Err(Error::NotAModel { .. })));
    }
}
