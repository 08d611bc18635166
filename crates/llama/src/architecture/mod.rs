//! Families of models: what their files say, and what they call their tensors.
//!
//! ```text
//! config.json ─► model_type ──┐
//!                             ├─► a row of KNOWN ─► LlamaConfig ─► the one forward
//! GGUF ─► its architecture ───┘         └─► where each tensor lies in a file
//! ```
//!
//! A family is one file in this folder and one row of [`KNOWN`]. It says how it differs from a plain
//! Llama in words that [`LlamaConfig`] has; the arithmetic is everyone's.

mod gpt2;
mod keys;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod require;
mod rope;

use std::path::Path;

use checkpoint::settings::Fields;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::config::{Architecture, LlamaConfig};
use crate::error::{Error, Result};

/// The families that this crate knows.
pub static ARCHITECTURES: &[&Architecture] =
    &[&gpt2::GPT2, &llama::LLAMA, &mistral::MISTRAL, &phi3::PHI3, &qwen2::QWEN2, &qwen3::QWEN3];

impl Architecture {
    /// The family of a `model_type`.
    pub fn by_model_type(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().copied().find(|known| known.name == name)
    }

    /// The family that a GGUF file names.
    pub(crate) fn from_gguf_name(path: &Path, name: &str) -> Result<&'static Self> {
        ARCHITECTURES
            .iter()
            .copied()
            .find(|known| known.gguf == name)
            .ok_or_else(|| unknown(path, name, |known| known.gguf))
    }
}

/// Reads the text of a `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`checkpoint::Error::Format`] for text that is no such JSON.
pub(crate) fn parse(path: &Path, text: &str) -> Result<LlamaConfig> {
    let json: Value =
        serde_json::from_str(text).map_err(|error| checkpoint::Error::json(path, &error))?;
    let name = json.get("model_type").and_then(Value::as_str).unwrap_or("none");
    let known =
        Architecture::by_model_type(name).ok_or_else(|| unknown(path, name, |known| known.name))?;
    keys::check(known, &json)?;
    let config = (known.read)(&Fields::new(path, &json), known.defaults())?;
    config.validate()?;
    Ok(config)
}

/// The keys of a `config.json` that nothing acts on, in order.
pub(crate) fn unused_keys(json: &Value) -> Vec<String> {
    let known =
        json.get("model_type").and_then(Value::as_str).and_then(Architecture::by_model_type);
    known.map_or_else(Vec::new, |known| keys::unused(known, json))
}

/// The `config.json` of a model, which says exactly this config when it is read again.
///
/// # Errors
/// [`Error::Config`] for the first setting that the family's `config.json` has no words for.
pub(crate) fn to_json(config: &LlamaConfig) -> Result<Value> {
    let known = config.architecture;
    let mut json = (known.write)(config);
    json["architectures"] = json!([known.class]);
    json["model_type"] = known.name.into();
    let again = (known.read)(&Fields::new(Path::new("config.json"), &json), known.defaults())?;
    let (asked, said) = (serde_json::to_value(config), serde_json::to_value(&again));
    let (asked, said) = (asked.expect("plain JSON"), said.expect("plain JSON"));
    for (field, value) in asked.as_object().into_iter().flatten() {
        if said[field] != *value {
            let expected =
                format!("{}, all that a {} config.json can say", said[field], known.name);
            return Err(Error::config(field, value.to_string(), expected));
        }
    }
    Ok(json)
}

fn unknown(path: &Path, found: &str, name: fn(&Architecture) -> &'static str) -> Error {
    let mut known = ARCHITECTURES.iter().map(|known| name(known)).collect::<Vec<_>>();
    known.dedup();
    Error::Architecture { path: path.into(), found: found.into(), known: known.join(", ") }
}

impl<'de> Deserialize<'de> for &'static Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Architecture::by_model_type(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no architecture is called {name}")))
    }
}
