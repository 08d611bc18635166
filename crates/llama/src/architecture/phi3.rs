//! Phi-3: a Llama whose files fuse query, key and value into one matrix and gate and up into another;
//! with a sliding window if the file has one.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::{
    COMMON_KEYS, TENSOR_NAMES, check_uniform_layer_types, read_common, write_common,
};
use crate::config::{Architecture, LlamaConfig, TensorNames};
use crate::error::Result;

pub(super) static PHI3: Architecture = Architecture {
    name: "phi3",
    class_name: "Phi3ForCausalLM",
    gguf_name: "phi3",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    tensor_names: TensorNames {
        per_layer: &[
            ["self_attn.q_proj", "self_attn.qkv_proj", "attn_qkv"],
            ["self_attn.k_proj", "self_attn.qkv_proj", "attn_qkv"],
            ["self_attn.v_proj", "self_attn.qkv_proj", "attn_qkv"],
            ["self_attn.o_proj", "self_attn.o_proj", "attn_output"],
            ["mlp.gate_proj", "mlp.gate_up_proj", "ffn_up"],
            ["mlp.up_proj", "mlp.gate_up_proj", "ffn_up"],
            ["mlp.down_proj", "mlp.down_proj", "ffn_down"],
            ["input_layernorm", "input_layernorm", "attn_norm"],
            ["post_attention_layernorm", "post_attention_layernorm", "ffn_norm"],
        ],
        ..TENSOR_NAMES
    },
    config_keys: &[COMMON_KEYS, &["layer_types", "sliding_window"]],
    defaults,
    read,
    write,
};

fn defaults() -> LlamaConfig {
    LlamaConfig {
        architecture: &PHI3,
        max_positions: 4096,
        norm_eps: 1e-5,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    let sliding_window = json.optional("sliding_window")?;
    let config = LlamaConfig { sliding_window, ..read_common(json, defaults)? };
    check_uniform_layer_types(json, &config)?;
    Ok(config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["sliding_window"] = config.sliding_window.into();
    // transformers' default is a token id that may be outside a small vocabulary.
    json["pad_token_id"] = Value::Null;
    json
}
