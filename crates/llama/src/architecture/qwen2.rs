//! Qwen2 and Qwen2.5: a Llama with biases on the query, key and value projections, and, where a file
//! asks for it, a window in its upper layers.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::keys::SIZES;
use super::llama::{NAMES, check_uniform_layer_types, sizes, write_common};
use crate::config::{Architecture, LlamaConfig};
use crate::error::{Error, Result};

pub(super) static QWEN2: Architecture = Architecture {
    name: "qwen2",
    class: "Qwen2ForCausalLM",
    gguf: "qwen2",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    names: NAMES,
    keys: &[SIZES, WINDOW],
    base,
    read,
    write,
};

/// Keys of a window.
pub(super) const WINDOW: &[&str] =
    &["layer_types", "max_window_layers", "sliding_window", "use_sliding_window"];

/// What transformers takes for granted where a file is silent.
pub(super) const DEFAULT_KV_HEADS: usize = 32;

/// What transformers takes for granted where a file asks for a window and says no more.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_FULL_LAYERS: usize = 28;

fn base() -> LlamaConfig {
    LlamaConfig {
        architecture: &QWEN2,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 32_768,
        qkv_bias: true,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    window(json, sizes(json, base)?)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    write_sliding_window(config, &mut json);
    json
}

/// Reads the window of the Qwen families. Their lowest `max_window_layers` look back all the way.
pub(super) fn window(json: &Fields<'_>, config: LlamaConfig) -> Result<LlamaConfig> {
    let silent = (!json.has("sliding_window")).then_some(DEFAULT_WINDOW);
    let asked = json.optional("use_sliding_window")?.unwrap_or(false);
    let Some(window) = json.optional("sliding_window")?.or(silent).filter(|_| asked) else {
        check_uniform_layer_types(json, &config)?;
        return Ok(config);
    };
    let full_attention_layers = match json.optional::<Vec<String>>("layer_types")? {
        None => json.optional("max_window_layers")?.unwrap_or(DEFAULT_FULL_LAYERS),
        Some(kinds) => {
            let full = kinds.iter().take_while(|kind| *kind == "full_attention").count();
            let above = kinds[full..].iter().all(|kind| kind == "sliding_attention");
            if kinds.len() != config.n_layers || !above {
                let expected = "full_attention below, sliding_attention above, one for each layer";
                return Err(Error::config("layer_types", kinds.join(" "), expected));
            }
            full
        }
    };
    if full_attention_layers >= config.n_layers {
        return Ok(config);
    }
    Ok(LlamaConfig { sliding_window: Some(window), full_attention_layers, ..config })
}

/// The way back of [`window`].
pub(super) fn write_sliding_window(config: &LlamaConfig, json: &mut Value) {
    json["use_sliding_window"] = config.sliding_window.is_some().into();
    json["sliding_window"] = config.sliding_window.into();
    json["max_window_layers"] = match config.sliding_window {
        Some(_) => config.full_attention_layers.into(),
        None => config.n_layers.into(),
    };
}
