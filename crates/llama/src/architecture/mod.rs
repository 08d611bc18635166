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
mod names;
mod phi3;
mod qwen2;
mod qwen3;
mod require;
mod rope;

use std::fmt;
use std::path::Path;

use checkpoint::settings::Fields;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::config::LlamaConfig;
use crate::error::{Error, Result};
pub(crate) use llama::LLAMA;
pub(crate) use names::{Format, Names};

/// The families that this crate knows.
pub static ARCHITECTURES: &[&Architecture] =
    &[&gpt2::GPT2, &LLAMA, &mistral::MISTRAL, &phi3::PHI3, &qwen2::QWEN2, &qwen3::QWEN3];

/// A family of models.
pub struct Architecture {
    /// What `config.json` calls it in `model_type`.
    pub name: &'static str,
    /// What `config.json` calls its class.
    class: &'static str,
    /// What GGUF files call it. The first row of a name serves it.
    gguf: &'static str,
    /// Whether every model of the family has as many key and value heads as query heads.
    pub multi_head_only: bool,
    /// Whether llama.cpp's files hold the rows of Wq and Wk interleaved.
    gguf_rotary_interleaved: bool,
    /// What its tensors are called.
    names: Names,
    /// Keys of `config.json` that [`read`](Self::read) acts on.
    keys: &'static [&'static [&'static str]],
    /// What is the same in every model of the family; sizes that every file names are left at zero.
    base: fn() -> LlamaConfig,
    /// Fills the base from `config.json`.
    read: fn(&Fields<'_>, LlamaConfig) -> Result<LlamaConfig>,
    /// The way back, as far as `config.json` can say it.
    write: fn(&LlamaConfig) -> Value,
}

impl Architecture {
    /// The family of a `model_type`.
    pub fn by_model_type(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().copied().find(|known| known.name == name)
    }

    /// What transformers calls the attention of a layer, such as `model.layers.3.self_attn`.
    pub fn attention_module(&self, layer: usize) -> String {
        self.names.attention(layer)
    }

    /// What a module of transformers' holds, such as `transformer.h.3.attn.c_attn`: its layer, and the parts
    /// in the order of their rows, several where the family stacks them. Parts are called as in a
    /// Llama, such as `self_attn.q_proj`.
    pub fn resolve_module(&self, module: &str) -> Option<(usize, Vec<&'static str>)> {
        let (layer, module) = self.names.split_layer(module)?;
        let parts = self.names.layer.iter().filter(|[_, theirs, _]| *theirs == module);
        let parts = parts.map(|[ours, _, _]| *ours).collect::<Vec<_>>();
        (!parts.is_empty()).then_some((layer, parts))
    }

    /// Whether some linear layers are one module in transformers, such as query, key and value.
    pub fn has_fused_linears(&self) -> bool {
        let modules = self.names.layer.iter().map(|[_, module, _]| module);
        let mut distinct = modules.clone().collect::<Vec<_>>();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() < modules.count()
    }

    /// The family that a GGUF file names.
    pub(crate) fn from_gguf_name(path: &Path, name: &str) -> Result<&'static Self> {
        ARCHITECTURES
            .iter()
            .copied()
            .find(|known| known.gguf == name)
            .ok_or_else(|| unknown(path, name, |known| known.gguf))
    }

    pub(crate) fn gguf_rotary_interleaved(&self) -> bool {
        self.gguf_rotary_interleaved
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether `config.json` may say something by this key that is acted on.
    fn reads(&self, key: &str) -> bool {
        self.keys.iter().any(|keys| keys.contains(&key))
    }

    /// What is the same in every model of the family. The sizes are still to be filled in.
    pub fn defaults(&self) -> LlamaConfig {
        (self.base)()
    }
}

/// Reads the text of a `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`Error::Format`] for text that is no such JSON.
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

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Architecture::by_model_type(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no architecture is called {name}")))
    }
}
