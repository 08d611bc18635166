//! Mistral: a Llama with a sliding window.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::{
    COMMON_KEYS, TENSOR_NAMES, check_uniform_layer_types, read_common, write_common,
};
use crate::config::{Architecture, LlamaConfig};
use crate::error::Result;

pub(super) static MISTRAL: Architecture = Architecture {
    name: "mistral",
    class_name: "MistralForCausalLM",
    // llama.cpp writes it as a Llama with a sliding window.
    gguf_name: "llama",
    multi_head_only: false,
    gguf_rotary_interleaved: true,
    tensor_names: TENSOR_NAMES,
    config_keys: &[COMMON_KEYS, &["layer_types", "sliding_window"]],
    defaults,
    read,
    write,
};

/// transformers' defaults.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_KV_HEADS: usize = 8;

fn defaults() -> LlamaConfig {
    LlamaConfig {
        architecture: &MISTRAL,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 131_072,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    let default_window = (!json.has("sliding_window")).then_some(DEFAULT_WINDOW);
    // Null means no window, as in later models.
    let sliding_window = json.optional("sliding_window")?.or(default_window);
    let config = LlamaConfig { sliding_window, ..read_common(json, defaults)? };
    check_uniform_layer_types(json, &config)?;
    Ok(config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["sliding_window"] = config.sliding_window.into();
    json
}
