//! Sliding window in the upper layers, as the Qwen families configure it.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::check_uniform_layer_types;
use crate::config::LlamaConfig;
use crate::error::{Error, Result};

/// Keys of `config.json` that [`read_sliding_window`] reads.
pub(super) const SLIDING_WINDOW_KEYS: &[&str] =
    &["layer_types", "max_window_layers", "sliding_window", "use_sliding_window"];

/// transformers' defaults if a file enables the window.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_FULL_ATTENTION_LAYERS: usize = 28;

/// Reads the sliding window. The lowest `max_window_layers` layers have none.
pub(super) fn read_sliding_window(json: &Fields<'_>, config: LlamaConfig) -> Result<LlamaConfig> {
    let default_window = (!json.has("sliding_window")).then_some(DEFAULT_WINDOW);
    let enabled = json.optional("use_sliding_window")?.unwrap_or(false);
    let Some(window) = json.optional("sliding_window")?.or(default_window).filter(|_| enabled)
    else {
        check_uniform_layer_types(json, &config)?;
        return Ok(config);
    };
    let full_attention_layers = match json.optional::<Vec<String>>("layer_types")? {
        None => json.optional("max_window_layers")?.unwrap_or(DEFAULT_FULL_ATTENTION_LAYERS),
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

/// The inverse of [`read_sliding_window`].
pub(super) fn write_sliding_window(config: &LlamaConfig, json: &mut Value) {
    json["use_sliding_window"] = config.sliding_window.is_some().into();
    json["sliding_window"] = config.sliding_window.into();
    json["max_window_layers"] = match config.sliding_window {
        Some(_) => config.full_attention_layers.into(),
        None => config.n_layers.into(),
    };
}
