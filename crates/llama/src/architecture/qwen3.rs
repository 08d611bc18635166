//! Qwen3: a Llama whose queries and keys are normed head by head before they are rotated.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::keys::SIZES;
use super::llama::{NAMES, sizes, write_common};
use super::qwen2::{DEFAULT_KV_HEADS, WINDOW, window, write_sliding_window};
use crate::config::{Architecture, LlamaConfig};
use crate::error::Result;

pub(super) static QWEN3: Architecture = Architecture {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    gguf: "qwen3",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    names: NAMES,
    keys: &[SIZES, &["attention_bias"], WINDOW],
    base,
    read,
    write,
};

/// What transformers takes for granted where a file is silent; not what the sizes would give.
const DEFAULT_HEAD_DIM: usize = 128;

fn base() -> LlamaConfig {
    LlamaConfig {
        architecture: &QWEN3,
        n_kv_heads: DEFAULT_KV_HEADS,
        max_positions: 32_768,
        qk_norm: true,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let attention_bias = json.optional("attention_bias")?.unwrap_or(false);
    let config = LlamaConfig {
        head_dim: json.optional("head_dim")?.unwrap_or(DEFAULT_HEAD_DIM),
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        ..sizes(json, base)?
    };
    window(json, config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["attention_bias"] = config.qkv_bias.into();
    write_sliding_window(config, &mut json);
    json
}
