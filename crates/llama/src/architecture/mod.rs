//! Families of models: `config.json`, tensor names and GGUF names of each.
//!
//! ```text
//! config.json ─► model_type ─────────┐
//!                                    ├─► a row of ARCHITECTURES ─► LlamaConfig ─► one forward pass
//! GGUF ─► general.architecture ──────┘           └─► tensor names ─► where each tensor is in a file
//! ```
//!
//! There is one forward pass. A family differs from a plain Llama only in fields of [`LlamaConfig`]
//! (biases, norm, position embedding, feed-forward network, sliding window, query and key norms, branch
//! point) and in its list of tensor names in Hugging Face's and llama.cpp's files. Inside this crate
//! every tensor has the name of a Llama's; `weights/tensor_layout.rs` finds it in a file, where it may be
//! part of a fused tensor or transposed. The same list serves loading and saving of safetensors, and GGUF.
//!
//! # Adding a base
//!
//! 1. Copy `mistral.rs` in this folder under the name of the family. `defaults` says how the family
//!    differs from a Llama, `read` and `write` translate its `config.json` (saving reads back what it
//!    wrote and fails if something was lost), `config_keys` lists the keys that `read` uses. If its
//!    tensors have other names, list them as `phi3.rs` does; modules that have the same name in a file
//!    are fused there, in the order of the list.
//! 2. Add a `mod` line and a row of [`ARCHITECTURES`] here.
//! 3. Add a `Case` to `tests/golden/cases.py` (its class in `families.py`), run `make.py tiny`, and add
//!    the case to `CASES` of `adaption-prompt/tests/adapter/tiny.rs` and
//!    `llama/tests/files/families.rs`. Logits, loss, gradients, decoding, training and files are then
//!    tested, and property tests take the family from [`ARCHITECTURES`].
//!
//! If [`LlamaConfig`] cannot express a difference, first add a field there and the `match` that computes
//! it.

mod config_keys;
mod gpt2;
mod llama;
mod llama_like;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod require;
mod rope;
mod sliding_window;

use std::path::Path;

use checkpoint::settings::Fields;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::config::{Architecture, LlamaConfig};
use crate::error::{Error, Result};

/// All known families.
pub static ARCHITECTURES: &[&Architecture] =
    &[&gpt2::GPT2, &llama::LLAMA, &mistral::MISTRAL, &phi3::PHI3, &qwen2::QWEN2, &qwen3::QWEN3];

impl Architecture {
    /// The family with this `model_type`.
    pub fn by_model_type(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().copied().find(|architecture| architecture.name == name)
    }

    /// The family with this name in GGUF files.
    pub(crate) fn from_gguf_name(path: &Path, name: &str) -> Result<&'static Self> {
        ARCHITECTURES
            .iter()
            .copied()
            .find(|architecture| architecture.gguf_name == name)
            .ok_or_else(|| unsupported_error(path, name, |architecture| architecture.gguf_name))
    }
}

/// Parses `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`checkpoint::Error::Format`] for invalid JSON.
pub(crate) fn parse(path: &Path, text: &str) -> Result<LlamaConfig> {
    let json: Value =
        serde_json::from_str(text).map_err(|error| checkpoint::Error::json(path, &error))?;
    let name = json.get("model_type").and_then(Value::as_str).unwrap_or("none");
    let architecture = Architecture::by_model_type(name)
        .ok_or_else(|| unsupported_error(path, name, |architecture| architecture.name))?;
    config_keys::check_supported(architecture, &json)?;
    let config = (architecture.read)(&Fields::new(path, &json), architecture.defaults())?;
    config.validate()?;
    Ok(config)
}

/// Keys of a `config.json` that have no effect, in alphabetical order.
pub(crate) fn unused_keys(json: &Value) -> Vec<String> {
    let architecture =
        json.get("model_type").and_then(Value::as_str).and_then(Architecture::by_model_type);
    architecture.map_or_else(Vec::new, |architecture| config_keys::unused(architecture, json))
}

/// The `config.json` of a model. Parsing it gives the same config.
///
/// # Errors
/// [`Error::Config`] for the first setting that the family's `config.json` cannot express.
pub(crate) fn to_json(config: &LlamaConfig) -> Result<Value> {
    let architecture = config.architecture;
    let mut json = (architecture.write)(config);
    json["architectures"] = json!([architecture.class_name]);
    json["model_type"] = architecture.name.into();
    let fields = Fields::new(Path::new("config.json"), &json);
    let reparsed = (architecture.read)(&fields, architecture.defaults())?;
    let (wanted, written) = (serde_json::to_value(config), serde_json::to_value(&reparsed));
    let (wanted, written) = (wanted.expect("plain JSON"), written.expect("plain JSON"));
    for (field, value) in wanted.as_object().into_iter().flatten() {
        if written[field] != *value {
            let (written, name) = (&written[field], architecture.name);
            let expected = format!("{written}, the only value that a {name} config.json can hold");
            return Err(Error::config(field, value.to_string(), expected));
        }
    }
    Ok(json)
}

fn unsupported_error(path: &Path, found: &str, name: fn(&Architecture) -> &'static str) -> Error {
    let mut known = ARCHITECTURES.iter().map(|known| name(known)).collect::<Vec<_>>();
    known.dedup();
    Error::Architecture { path: path.into(), found: found.into(), known: known.join(", ") }
}

impl<'de> Deserialize<'de> for &'static Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Architecture::by_model_type(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("there is no architecture {name}")))
    }
}
