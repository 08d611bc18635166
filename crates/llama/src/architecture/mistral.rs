//! Mistral: a Llama whose tokens may look back through a window only.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::keys::SIZES;
use super::llama::{NAMES, check_uniform_layer_types, sizes, write_common};
use crate::config::{Architecture, LlamaConfig};
use crate::error::Result;

pub(super) static MISTRAL: Architecture = Architecture {
    name: "mistral",
    class: "MistralForCausalLM",
    // llama.cpp writes it as a Llama with a window.
    gguf: "llama",
    multi_head_only: false,
    gguf_rotary_interleaved: true,
    names: NAMES,
    keys: &[SIZES, &["layer_types", "sliding_window"]],
    base,
    read,
    write,
};

/// What transformers takes for granted where a file is silent.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_KV_HEADS: usize = 8;

fn base() -> LlamaConfig {
    LlamaConfig {
        architecture: &MISTRAL,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 131_072,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let silent = (!json.has("sliding_window")).then_some(DEFAULT_WINDOW);
    // Null is no window: the later models look back all the way.
    let sliding_window = json.optional("sliding_window")?.or(silent);
    let config = LlamaConfig { sliding_window, ..sizes(json, base)? };
    check_uniform_layer_types(json, &config)?;
    Ok(config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["sliding_window"] = config.sliding_window.into();
    json
}
