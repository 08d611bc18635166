//! A family of models: names, defaults and the functions that read and write its `config.json`.

use std::fmt;

use checkpoint::settings::Fields;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::LlamaConfig;
use super::tensor_names::TensorNames;
use crate::error::Result;

/// A family of models.
///
/// [`llama::architecture`](crate::architecture) has all of them.
pub struct Architecture {
    /// `model_type` in `config.json`.
    pub name: &'static str,
    /// Class in `config.json`.
    pub(crate) class_name: &'static str,
    /// `general.architecture` in GGUF files. If several families share a name, the first one reads it.
    pub(crate) gguf_name: &'static str,
    /// Whether every model of the family has as many key and value heads as query heads.
    pub multi_head_only: bool,
    /// Whether llama.cpp's files interleave the rows of Wq and Wk.
    pub(crate) gguf_rotary_interleaved: bool,
    /// Names of the tensors in files.
    pub(crate) tensor_names: TensorNames,
    /// Keys of `config.json` that `read` uses.
    pub(crate) config_keys: &'static [&'static [&'static str]],
    /// Settings that all models of the family share; sizes that every file names are zero.
    pub(crate) defaults: fn() -> LlamaConfig,
    /// Completes the defaults from `config.json`.
    pub(crate) read: fn(&Fields<'_>, LlamaConfig) -> Result<LlamaConfig>,
    /// The inverse of `read`, as far as `config.json` can express the config.
    pub(crate) write: fn(&LlamaConfig) -> Value,
}

impl Architecture {
    /// transformers' name of a layer's attention, such as `model.layers.3.self_attn`.
    pub fn attention_module(&self, layer: usize) -> String {
        self.tensor_names.attention_module(layer)
    }

    /// Layer and linear layers of one of transformers' modules, such as `transformer.h.3.attn.c_attn`.
    ///
    /// Linear layers have their names in a Llama, such as `self_attn.q_proj`. A fused module holds
    /// several of them, in the order of its rows.
    pub fn resolve_module(&self, module: &str) -> Option<(usize, Vec<&'static str>)> {
        let (layer, module) = self.tensor_names.split_layer(module)?;
        let rows = self.tensor_names.per_layer.iter();
        let parts = rows.filter(|[_, huggingface, _]| *huggingface == module);
        let parts = parts.map(|[canonical, _, _]| *canonical).collect::<Vec<_>>();
        (!parts.is_empty()).then_some((layer, parts))
    }

    /// Whether some linear layers are one module in transformers, such as query, key and value.
    pub fn has_fused_linears(&self) -> bool {
        let modules = self.tensor_names.per_layer.iter().map(|[_, module, _]| module);
        let mut distinct = modules.clone().collect::<Vec<_>>();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() < modules.count()
    }

    /// Whether `read` uses this key of `config.json`.
    pub(crate) fn reads_key(&self, key: &str) -> bool {
        self.config_keys.iter().any(|keys| keys.contains(&key))
    }

    /// Settings that all models of the family share. Sizes are zero.
    pub fn defaults(&self) -> LlamaConfig {
        (self.defaults)()
    }
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
