//! Llama 1 to 3.2 and all that call themselves one: TinyLlama, SmolLM, SmolLM2.
//!
//! The other families are told as differences from this one.

use serde_json::{Value, json};

use super::fields::Fields;
use super::names::{Name, Names};
use super::{Architecture, rope};
use crate::config::LlamaConfig;
use crate::error::Result;

pub(crate) static LLAMA: Architecture = Architecture {
    name: "llama",
    class: "LlamaForCausalLM",
    gguf: "llama",
    gguf_interleaved: true,
    names: NAMES,
    base,
    read,
    write,
};

/// Names of Llama and most of its relatives.
pub(super) const NAMES: Names = Names {
    prefix: "model.",
    layers: "layers.",
    attention: "self_attn",
    transposed: false,
    whole: WHOLE,
    layer: &[
        ["self_attn.q_proj", "self_attn.q_proj", "attn_q"],
        ["self_attn.k_proj", "self_attn.k_proj", "attn_k"],
        ["self_attn.v_proj", "self_attn.v_proj", "attn_v"],
        ["self_attn.o_proj", "self_attn.o_proj", "attn_output"],
        ["self_attn.q_norm", "self_attn.q_norm", "attn_q_norm"],
        ["self_attn.k_norm", "self_attn.k_norm", "attn_k_norm"],
        ["mlp.gate_proj", "mlp.gate_proj", "ffn_gate"],
        ["mlp.up_proj", "mlp.up_proj", "ffn_up"],
        ["mlp.down_proj", "mlp.down_proj", "ffn_down"],
        ["input_layernorm", "input_layernorm", "attn_norm"],
        ["post_attention_layernorm", "post_attention_layernorm", "ffn_norm"],
    ],
    ignored: &["rotary_emb.inv_freq"],
};

/// Names outside of the layers.
pub(super) const WHOLE: &[Name] = &[
    ["model.embed_tokens", "model.embed_tokens", "token_embd"],
    ["model.norm", "model.norm", "output_norm"],
    ["lm_head", "lm_head", "output"],
];

fn base() -> LlamaConfig {
    LlamaConfig { architecture: &LLAMA, ..LlamaConfig::default() }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let attention_bias = json.optional("attention_bias")?.unwrap_or(false);
    Ok(LlamaConfig {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: json.optional("mlp_bias")?.unwrap_or(false),
        // Llama's code knows no window, even where a file mentions one.
        ..sizes(json, base)?
    })
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = sizes_json(config);
    json["attention_bias"] = config.qkv_bias.into();
    json["mlp_bias"] = config.mlp_bias.into();
    json
}

/// What Llama and its relatives say in the same words. Absent sizes are the base's.
pub(super) fn sizes(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    json.refuse("hidden_act", "silu".to_owned())?;
    let d_model: usize = json.required("hidden_size")?;
    let n_heads: usize = json.required("num_attention_heads")?;
    Ok(LlamaConfig {
        n_layers: json.required("num_hidden_layers")?,
        n_heads,
        n_kv_heads: json.optional("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim: json.optional("head_dim")?.unwrap_or_else(|| d_model / n_heads.max(1)),
        d_model,
        d_ff: json.required("intermediate_size")?,
        vocab_size: json.required("vocab_size")?,
        max_positions: json.optional("max_position_embeddings")?.unwrap_or(base.max_positions),
        norm_eps: json.optional("rms_norm_eps")?.unwrap_or(base.norm_eps),
        rope: rope::read(json)?,
        tied_head: json.optional("tie_word_embeddings")?.unwrap_or(base.tied_head),
        ..base
    })
}

/// The way back of [`sizes`].
pub(super) fn sizes_json(config: &LlamaConfig) -> Value {
    let mut json = json!({
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_head,
    });
    rope::write(&config.rope, &mut json);
    json
}
