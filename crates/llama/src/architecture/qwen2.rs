//! Qwen2 and Qwen2.5: a Llama with biases on the query, key and value projections and an optional sliding
//! window in the upper layers.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::{COMMON_KEYS, TENSOR_NAMES, read_common, write_common};
use super::sliding_window::{SLIDING_WINDOW_KEYS, read_sliding_window, write_sliding_window};
use crate::config::{Architecture, LlamaConfig};
use crate::error::Result;

pub(super) static QWEN2: Architecture = Architecture {
    name: "qwen2",
    class_name: "Qwen2ForCausalLM",
    gguf_name: "qwen2",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    tensor_names: TENSOR_NAMES,
    config_keys: &[COMMON_KEYS, SLIDING_WINDOW_KEYS],
    defaults,
    read,
    write,
};

/// transformers' default.
const DEFAULT_KV_HEADS: usize = 32;

fn defaults() -> LlamaConfig {
    LlamaConfig {
        architecture: &QWEN2,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 32_768,
        qkv_bias: true,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    read_sliding_window(json, read_common(json, defaults)?)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    write_sliding_window(config, &mut json);
    json
}
