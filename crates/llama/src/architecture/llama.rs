//! Llama 1 to 3.2 and all that call themselves one: TinyLlama, SmolLM, SmolLM2.
//!
//! The other families are told as differences from this one.

use checkpoint::settings::Fields;
use serde_json::{Value, json};

use super::keys::SIZES;
use super::require::require_activation;
use super::rope;
use crate::config::{
    Architecture, BranchPoint, FeedForwardKind, LlamaConfig, Name, Names, NormKind,
    PositionEmbedding, RopeConfig, RopeScaling,
};
use crate::error::{Error, Result};

pub(super) static LLAMA: Architecture = Architecture {
    name: "llama",
    class: "LlamaForCausalLM",
    gguf: "llama",
    multi_head_only: false,
    gguf_rotary_interleaved: true,
    names: NAMES,
    keys: &[SIZES, &["attention_bias", "layer_types", "mlp_bias"]],
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
    whole: GLOBAL_NAMES,
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
pub(super) const GLOBAL_NAMES: &[Name] = &[
    ["model.embed_tokens", "model.embed_tokens", "token_embd"],
    ["model.norm", "model.norm", "output_norm"],
    ["lm_head", "lm_head", "output"],
];

fn base() -> LlamaConfig {
    LlamaConfig { architecture: &LLAMA, ..LlamaConfig::default() }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let attention_bias = json.optional("attention_bias")?.unwrap_or(false);
    let config = LlamaConfig {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: json.optional("mlp_bias")?.unwrap_or(false),
        // Llama's code knows no window, even where a file mentions one.
        ..sizes(json, base)?
    };
    check_uniform_layer_types(json, &config)?;
    Ok(config)
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = write_common(config);
    json["attention_bias"] = config.qkv_bias.into();
    json["mlp_bias"] = config.mlp_bias.into();
    json
}

/// transformers' names of one activation.
const SILU: &[&str] = &["silu", "swish"];

/// What Llama and its relatives say in the same words. Absent sizes are the base's.
pub(super) fn sizes(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    require_activation(json, "hidden_act", SILU)?;
    let d_model: usize = json.required("hidden_size")?;
    let n_heads: usize = json.required("num_attention_heads")?;
    // Null is one for each head. Not to be named at all is a number of its own in some families.
    let silent = if json.has("num_key_value_heads") { 0 } else { base.n_kv_heads };
    let silent = if silent == 0 { n_heads } else { silent };
    let max_positions = json.optional("max_position_embeddings")?.unwrap_or(base.max_positions);
    Ok(LlamaConfig {
        n_layers: json.required("num_hidden_layers")?,
        n_heads,
        n_kv_heads: json.optional("num_key_value_heads")?.unwrap_or(silent),
        head_dim: json.optional("head_dim")?.unwrap_or_else(|| d_model / n_heads.max(1)),
        d_model,
        d_ff: json.required("intermediate_size")?,
        vocab_size: json.required("vocab_size")?,
        max_positions,
        norm_eps: json.optional("rms_norm_eps")?.unwrap_or(base.norm_eps),
        rope: rope::read(json, max_positions)?,
        tied_head: json.optional("tie_word_embeddings")?.unwrap_or(base.tied_head),
        ..base
    })
}

/// Refuses layers of which some look back farther than others, in families whose layers are all
/// alike.
pub(super) fn check_uniform_layer_types(json: &Fields<'_>, config: &LlamaConfig) -> Result<()> {
    let alike = match config.sliding_window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    let kinds: Vec<String> = json.optional("layer_types")?.unwrap_or_default();
    match kinds.into_iter().find(|kind| kind != alike) {
        Some(other) => Err(Error::config("layer_types", other, format!("{alike} everywhere"))),
        None => Ok(()),
    }
}

/// The way back of [`sizes`].
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

/// A plain Llama whose sizes are still to be filled in.
impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            architecture: &LLAMA,
            n_layers: 0,
            n_heads: 0,
            n_kv_heads: 0,
            head_dim: 0,
            d_model: 0,
            d_ff: 0,
            vocab_size: 0,
            max_positions: 2048,
            norm_eps: 1e-6,
            rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tied_head: false,
            sliding_window: None,
            full_attention_layers: 0,
            norm: NormKind::default(),
            positions: PositionEmbedding::default(),
            feed_forward: FeedForwardKind::default(),
            branch: BranchPoint::default(),
        }
    }
}
