//! Qwen3: a Llama with a norm on each query and key head before the rotary embedding.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::{COMMON_KEYS, TENSOR_NAMES, read_common, write_common};
use super::sliding_window::{SLIDING_WINDOW_KEYS, read_sliding_window, write_sliding_window};
use crate::config::{Architecture, LlamaConfig};
use crate::error::Result;

pub(super) static QWEN3: Architecture = Architecture {
    name: "qwen3",
    class_name: "Qwen3ForCausalLM",
    gguf_name: "qwen3",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    tensor_names: TENSOR_NAMES,
    config_keys: &[COMMON_KEYS, &["attention_bias"], SLIDING_WINDOW_KEYS],
    defaults,
    read,
    write,
};

/// transformers' defaults; the width of a head does not follow from the other sizes.
const DEFAULT_HEAD_DIM: usize = 128;
const DEFAULT_KV_HEADS: usize = 32;

fn defaults() -> LlamaConfig {
    LlamaConfig {
        architecture: &QWEN3,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 32_768,
        qk_norm: true,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    let attention_bias = json.optional("attention_bias")?.unwrap_or(false);
    let config = LlamaConfig {
        head_dim: json.optional("head_dim")?.unwrap_or(DEFAULT_HEAD_DIM),
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        ..read_common(json, defaults)?
    };
    read_sliding_window(json, config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["attention_bias"] = config.qkv_bias.into();
    write_sliding_window(config, &mut json);
    json
}
