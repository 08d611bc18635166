//! Phi-3: a Llama whose files hold query, key and value in one matrix, and gate and up in another;
//! with a window where a file names one.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::keys::SIZES;
use super::llama::{NAMES, check_uniform_layer_types, sizes, write_common};
use crate::config::{Architecture, LlamaConfig, Names};
use crate::error::Result;

pub(super) static PHI3: Architecture = Architecture {
    name: "phi3",
    class: "Phi3ForCausalLM",
    gguf: "phi3",
    multi_head_only: false,
    gguf_rotary_interleaved: false,
    names: Names {
        layer: &[
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
        ..NAMES
    },
    keys: &[SIZES, &["layer_types", "sliding_window"]],
    base,
    read,
    write,
};

fn base() -> LlamaConfig {
    LlamaConfig {
        architecture: &PHI3,
        max_positions: 4096,
        norm_eps: 1e-5,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let sliding_window = json.optional("sliding_window")?;
    let config = LlamaConfig { sliding_window, ..sizes(json, base)? };
    check_uniform_layer_types(json, &config)?;
    Ok(config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["sliding_window"] = config.sliding_window.into();
    // transformers' default is a token that a small vocabulary does not have.
    json["pad_token_id"] = Value::Null;
    json
}
