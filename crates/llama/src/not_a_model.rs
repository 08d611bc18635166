//! What lies at a path that is no model ─► the error that says what it is and where it goes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::gguf::split::is_later_part;
use crate::weights::huggingface::{self, WEIGHTS};
use crate::weights::meta::PARAMS_FILE;
use crate::weights::{FileKind, WeightFile};

/// The settings of an adapter's folder, in PEFT's form and in ours.
const ADAPTER_SETTINGS: [&str; 2] = ["adapter_config.json", "llama_adapter.json"];
/// How the name of litgpt's adapters ends.
const LITGPT_ADAPTER: &str = ".pth.adapter";
/// What is said of litgpt's models.
const LITGPT_MODEL: &str =
    "it is litgpt's, whose models are not read: give the Hugging Face folder that it was made from";
/// Weights of other programs, and what they are.
const FOREIGN: [(&str, &str); 5] = [
    ("tf_model.h5", "TensorFlow's"),
    ("flax_model.msgpack", "Flax's"),
    ("model.onnx", "ONNX's"),
    ("rust_model.ot", "rust-bert's"),
    ("consolidated.safetensors", "Mistral's own format's"),
];
/// Parts of the names of an adapter's tensors, in every format that adapters have.
const ADAPTER_TENSORS: [&str; 7] = [
    "adaption_prompt",
    "adaption_gate",
    "adapter_query",
    "adapter_wte",
    "gating_factor",
    ".lora_A.",
    ".lora_B.",
];

/// The one GGUF file of a folder, or the first part of the one that is split. Encoders of pictures,
/// which llama.cpp keeps beside a model, do not count.
///
/// # Errors
/// [`Error::NotAModel`] where there are several to choose from; [`Error::Read`].
pub(crate) fn only_gguf(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = names(folder)?;
    found.retain(|name| is_gguf(name));
    // Of a split file whose first part is missing, another one tells so.
    if found.iter().any(|name| !is_later_part(name)) {
        found.retain(|name| !is_later_part(name));
    } else {
        found.truncate(1);
    }
    match &found[..] {
        [] => Ok(None),
        [only] => Ok(Some(folder.join(only))),
        several => Err(no_model(
            folder,
            format!("it has several, give one of them: {}", several.join(", ")),
        )),
    }
}

fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "gguf")
        && !name.starts_with("mmproj")
}

/// The error about a folder that has no `config.json`, or no weights.
pub(crate) fn folder(path: &Path) -> Error {
    let names = names(path).unwrap_or_default();
    let has = |name: &str| names.iter().any(|other| other == name);
    let find = |test: &dyn Fn(&str) -> bool| names.iter().find(|name| test(name));
    if huggingface::has_weights(path) {
        return no_model(path, without_config(&names));
    }
    if let Some(settings) = ADAPTER_SETTINGS.iter().find(|name| has(name)) {
        return adapter(path, Some(&path.join(settings)));
    }
    if find(&|name| name.ends_with(LITGPT_ADAPTER)).is_some() {
        return adapter(path, None);
    }
    let reason = if has("lit_model.pth") {
        LITGPT_MODEL.into()
    } else if let Some((name, whose)) = FOREIGN.iter().find(|(name, _)| has(name)) {
        format!("its weights are {whose} ({name}), which is not read")
    } else if !has("config.json") {
        without_config(&names)
    } else if let Some(part) = find(&is_part) {
        format!("it has {part}, and no index of such parts ({} or {})", WEIGHTS[1], WEIGHTS[3])
    } else {
        let ggufs = names.iter().filter(|name| is_gguf(name)).cloned().collect::<Vec<_>>();
        let ggufs = match &ggufs[..] {
            [] => String::new(),
            ggufs => format!("; it has GGUF files, give one of them: {}", ggufs.join(", ")),
        };
        format!("it has no weights: none of {}{ggufs}", WEIGHTS.join(", "))
    };
    no_model(path, reason)
}

/// Whether a file is named as one of several of Hugging Face's.
fn is_part(name: &str) -> bool {
    ["model-", "pytorch_model-"].iter().any(|start| name.starts_with(start))
        && [".safetensors", ".bin"].iter().any(|end| name.ends_with(end))
}

/// What a folder with these files is that has no `config.json`.
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
        format!("it has {weights}, and no config.json")
    } else if let Some(name) = find(&|name| name.starts_with("models--")) {
        format!("it is a cache of models: give the folder of one, such as {name}")
    } else if has("snapshots") {
        "its snapshot has no config.json".into()
    } else if let Some(name) = find(&|name| name.starts_with("tokenizer.")) {
        format!("it has a tokenizer, {name}, and neither config.json nor weights")
    } else {
        "the folder has no config.json".into()
    }
}

/// The error about a file that is of this kind and no GGUF.
pub(crate) fn file(path: &Path, kind: FileKind) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_weights = matches!(kind, FileKind::Safetensors | FileKind::Torch);
    if !is_weights {
        let reason = match &*name {
            "config.json" | PARAMS_FILE => "a config alone is no model: give its folder",
            name if ADAPTER_SETTINGS.contains(&name) => return adapter(path, Some(path)),
            _ if name.ends_with(".index.json") => "an index alone is no model: give its folder",
            _ if name.starts_with("tokenizer") => "a tokenizer alone is no model: give its folder",
            _ if name.ends_with(".safetensors") => "weights alone are no model: give their folder",
            _ => "the file is of no kind that holds a model",
        };
        return no_model(path, reason.into());
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
        format!("it is a shard of Meta's: give its folder, with {PARAMS_FILE}")
    } else if any("transformer.wte.weight") && any("attn.qkv.weight") {
        LITGPT_MODEL.into()
    } else if path.with_file_name("config.json").exists() {
        "weights alone are no model: give their folder, which has a config.json".into()
    } else {
        "weights alone are no model: give a folder with their config.json".into()
    };
    no_model(path, reason)
}

/// An adapter, with the base that its settings name.
fn adapter(path: &Path, settings: Option<&Path>) -> Error {
    let text = settings.and_then(|settings| fs::read_to_string(settings).ok());
    let json = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let base =
        json.and_then(|json| Some(json.get("base_model_name_or_path")?.as_str()?.to_owned()));
    Error::AdapterAsModel { path: path.into(), base: base.filter(|base| !base.is_empty()) }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::read(folder))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    Ok(names)
}

/// The error about a path that is no model, with the reason.
pub(crate) fn no_model(path: &Path, reason: String) -> Error {
    Error::NotAModel { path: path.into(), reason }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::source::ModelSource;
    use crate::torch::{self, to_bytes};

    /// Its name and what is in it.
    type File<'a> = (&'a str, &'a [u8]);

    /// What is said of a folder with these files, or of the one in it that is named.
    fn told(files: &[File], given: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let message = ModelSource::open(folder.path().join(given)).unwrap_err().to_string();
        message.replace(&*folder.path().to_string_lossy(), "F")
    }

    fn torch_file(tensor: &str) -> Vec<u8> {
        let data = torch::Value::Tensor(TensorData::from([1.0_f32]));
        to_bytes(&torch::Value::Dict(vec![(tensor.into(), data)])).unwrap()
    }

    #[test]
    fn a_folder_that_is_no_model_is_told_for_what_it_is() {
        let settings: (&str, &[u8]) =
            ("adapter_config.json", br#"{"base_model_name_or_path": "owner/base"}"#);
        let adapter = "this is an adapter, not a model";
        let made_for = format!("{adapter} (it was made for `owner/base`)");
        for (files, expected) in [
            (&[][..], "the folder has no config.json"),
            (&[settings, ("adapter_model.safetensors", b"x")], &made_for),
            (&[("lit_model.pth.adapter", b"x")], adapter),
            (&[("lit_model.pth", b"x")], "it is litgpt's, whose models"),
            (&[("consolidated.00.pth", b"x")], "consolidated.00.pth without params.json"),
            (&[("model.safetensors", b"x")], "it has model.safetensors, and no config.json"),
            (&[("models--a--b", b"x")], "give the folder of one, such as models--a--b"),
            (&[("tokenizer.json", b"{}")], "it has a tokenizer, tokenizer.json, and neither"),
            (&[("a.gguf", b"x"), ("b.gguf", b"x")], "give one of them: a.gguf, b.gguf"),
        ] {
            let message = told(files, "");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_folder_without_weights_is_told_the_same_with_a_config_and_without() {
        let settings: (&str, &[u8]) =
            ("adapter_config.json", br#"{"base_model_name_or_path": "owner/base"}"#);
        let config = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;
        let loaded = |files: &[(&str, &[u8])]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            let without = ModelSource::open(folder.path()).unwrap_err();
            fs::write(folder.path().join("config.json"), config).unwrap();
            let source = ModelSource::open(folder.path()).unwrap();
            let with = source.stored_precision().unwrap_err();
            [without, with]
                .map(|error| error.to_string().replace(&*folder.path().to_string_lossy(), "F"))
        };
        for (files, expected) in [
            (&[settings][..], "F: this is an adapter, not a model (it was made for `owner/base`)"),
            (&[("lit_model.pth", b"x")], "it is litgpt's, whose models"),
            (&[("b.onnx", b"x"), ("model.onnx", b"x")], "its weights are ONNX's (model.onnx)"),
            (&[("consolidated.safetensors", b"x")], "its weights are Mistral's own format's"),
        ] {
            for message in loaded(files) {
                assert!(message.contains(expected), "{message}");
            }
        }
    }

    #[test]
    fn weights_beside_the_settings_of_an_adapter_lack_a_config() {
        let files: [(&str, &[u8]); 2] =
            [("adapter_config.json", b"{}"), ("model.safetensors", b"x")];
        assert!(told(&files, "").contains("it has model.safetensors, and no config.json"));
    }

    #[test]
    fn a_file_that_is_no_model_is_told_for_what_it_is() {
        let weights: (&str, &[u8]) = ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
        let config: (&str, &[u8]) = ("config.json", b"{}");
        let [prompt, shard, other] =
            ["0.adaption_prompt", "tok_embeddings.weight", "w"].map(torch_file);
        let cases: [(&[File], &str, &str); 10] = [
            (&[], "none", "there is no such file or folder"),
            (&[("notes.txt", b"dear diary")], "notes.txt", "of no kind that holds a model"),
            (&[("notes.txt", b"")], "notes.txt", "F/notes.txt: this is an empty file"),
            (&[config], "config.json", "a config alone is no model: give its folder"),
            (&[weights], "model.safetensors", "give a folder with their config.json"),
            (&[weights, config], "model.safetensors", "which has a config.json"),
            (&[("a.pth", &prompt)], "a.pth", "F/a.pth: this is an adapter, not a model"),
            (&[("a.pth", &shard)], "a.pth", "a shard of Meta's: give its folder, with params.json"),
            (&[("a.pth", &other)], "a.pth", "weights alone are no model"),
            (&[("tokenizer.json", b"{}")], "tokenizer.json", "a tokenizer alone is no model"),
        ];
        for (files, given, expected) in cases {
            let message = told(files, given);
            assert!(message.contains(expected), "{given}: {message}");
        }
    }

    #[test]
    fn a_folder_may_have_one_gguf() {
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
