//! Settings and tensor names that families like Llama share.

use checkpoint::settings::Fields;
use serde_json::{Value, json};

use super::require::require_activation;
use super::rope;
use crate::config::{LlamaConfig, NameRow, TensorNames};
use crate::error::{Error, Result};

/// Tensor names of Llama and most other families.
pub(super) const TENSOR_NAMES: TensorNames = TensorNames {
    prefix: "model.",
    layer_prefix: "layers.",
    attention_name: "self_attn",
    transposed: false,
    global: GLOBAL_NAMES,
    per_layer: &[
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
const GLOBAL_NAMES: &[NameRow] = &[
    ["model.embed_tokens", "model.embed_tokens", "token_embd"],
    ["model.norm", "model.norm", "output_norm"],
    ["lm_head", "lm_head", "output"],
];

/// Keys of `config.json` that all families with a rotary embedding read.
pub(super) const COMMON_KEYS: &[&str] = &[
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

/// transformers' names of SiLU.
const SILU: &[&str] = &["silu", "swish"];

/// Reads the settings of [`COMMON_KEYS`]. Absent sizes keep their defaults.
pub(super) fn read_common(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    require_activation(json, "hidden_act", SILU)?;
    let d_model: usize = json.required("hidden_size")?;
    let n_heads: usize = json.required("num_attention_heads")?;
    // Null means one per query head. For an absent key some families have their own default.
    let default_kv_heads = if json.has("num_key_value_heads") { 0 } else { defaults.n_kv_heads };
    let default_kv_heads = if default_kv_heads == 0 { n_heads } else { default_kv_heads };
    let max_positions = json.optional("max_position_embeddings")?.unwrap_or(defaults.max_positions);
    Ok(LlamaConfig {
        n_layers: json.required("num_hidden_layers")?,
        n_heads,
        n_kv_heads: json.optional("num_key_value_heads")?.unwrap_or(default_kv_heads),
        head_dim: json.optional("head_dim")?.unwrap_or_else(|| d_model / n_heads.max(1)),
        d_model,
        d_ff: json.required("intermediate_size")?,
        vocab_size: json.required("vocab_size")?,
        max_positions,
        norm_eps: json.optional("rms_norm_eps")?.unwrap_or(defaults.norm_eps),
        rope: rope::read(json, max_positions)?,
        tied_head: json.optional("tie_word_embeddings")?.unwrap_or(defaults.tied_head),
        ..defaults
    })
}

/// Rejects `layer_types` that differ from layer to layer, in families whose layers are all equal.
pub(super) fn check_uniform_layer_types(json: &Fields<'_>, config: &LlamaConfig) -> Result<()> {
    let layer_type = match config.sliding_window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    let kinds: Vec<String> = json.optional("layer_types")?.unwrap_or_default();
    match kinds.into_iter().find(|kind| kind != layer_type) {
        Some(other) => Err(Error::config("layer_types", other, format!("{layer_type} everywhere"))),
        None => Ok(()),
    }
}

/// The inverse of [`read_common`].
pub(super) fn write_common(config: &LlamaConfig) -> Value {
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
