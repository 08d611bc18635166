//! GPT-2 and DistilGPT2: learned positions, layer norms, a feed-forward network without a gate, biases in
//! all layers, a tied head.
//!
//! Hugging Face's files hold matrices as `[in, out]`, and query, key and value as one. The branch of gated
//! prompts is added after the output projection, as PEFT trains and stores its adapters.

use checkpoint::settings::Fields;
use serde_json::{Value, json};

use super::require::require;
use crate::config::{
    Architecture, BranchPoint, FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding,
    TensorNames,
};
use crate::error::{Error, Result};

pub(super) static GPT2: Architecture = Architecture {
    name: "gpt2",
    class_name: "GPT2LMHeadModel",
    gguf_name: "gpt2",
    multi_head_only: true,
    gguf_rotary_interleaved: false,
    tensor_names: TensorNames {
        prefix: "transformer.",
        layer_prefix: "h.",
        attention_name: "attn",
        transposed: true,
        global: &[
            ["model.embed_tokens", "transformer.wte", "token_embd"],
            ["model.embed_positions", "transformer.wpe", "position_embd"],
            ["model.norm", "transformer.ln_f", "output_norm"],
            ["lm_head", "lm_head", "output"],
        ],
        per_layer: &[
            ["self_attn.q_proj", "attn.c_attn", "attn_qkv"],
            ["self_attn.k_proj", "attn.c_attn", "attn_qkv"],
            ["self_attn.v_proj", "attn.c_attn", "attn_qkv"],
            ["self_attn.o_proj", "attn.c_proj", "attn_output"],
            ["mlp.up_proj", "mlp.c_fc", "ffn_up"],
            ["mlp.down_proj", "mlp.c_proj", "ffn_down"],
            ["input_layernorm", "ln_1", "attn_norm"],
            ["post_attention_layernorm", "ln_2", "ffn_norm"],
        ],
        // The causal mask in older files.
        ignored: &[".attn.bias", ".attn.masked_bias"],
    },
    config_keys: &[&[
        "activation_function",
        "hidden_size",
        "layer_norm_epsilon",
        "max_position_embeddings",
        "n_embd",
        "n_head",
        "n_inner",
        "n_layer",
        "n_positions",
        "num_attention_heads",
        "num_hidden_layers",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
        "tie_word_embeddings",
        "vocab_size",
    ]],
    defaults,
    read,
    write,
};

/// transformers' names of GELU and its tanh approximation.
const GELU: &[&str] = &["gelu", "gelu_python"];
const GELU_TANH: &[&str] =
    &["gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"];

fn defaults() -> LlamaConfig {
    LlamaConfig {
        architecture: &GPT2,
        max_positions: 1024,
        norm_eps: 1e-5,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        tied_head: true,
        norm: NormKind::Layer,
        positions: PositionEmbedding::Learned,
        feed_forward: FeedForwardKind::GeluTanh,
        branch: BranchPoint::AfterOutput,
        ..LlamaConfig::default()
    }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    require(json, "scale_attn_weights", true)?;
    require(json, "scale_attn_by_inverse_layer_idx", false)?;
    let feed_forward = match json.optional::<String>("activation_function")?.as_deref() {
        None => FeedForwardKind::GeluTanh,
        Some(name) if GELU_TANH.contains(&name) => FeedForwardKind::GeluTanh,
        Some(name) if GELU.contains(&name) => FeedForwardKind::Gelu,
        Some(other) => {
            let expected = [GELU_TANH, GELU].concat().join(" or ");
            return Err(Error::config("activation_function", other, expected));
        }
    };
    // transformers also accepts the keys of other families, and prefers them.
    let size = |common: &str, own: &str| match json.optional::<usize>(common)? {
        Some(size) => Ok(Some(size)),
        None => json.optional::<usize>(own),
    };
    let required = |common: &str, own: &str| match size(common, own)? {
        Some(size) => Ok(size),
        None => json.required(own),
    };
    let d_model = required("hidden_size", "n_embd")?;
    let n_heads = required("num_attention_heads", "n_head")?;
    let max_positions = size("max_position_embeddings", "n_positions")?;
    Ok(LlamaConfig {
        n_layers: required("num_hidden_layers", "n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: d_model / n_heads.max(1),
        d_model,
        d_ff: json.optional("n_inner")?.unwrap_or_else(|| d_model.saturating_mul(4)),
        vocab_size: json.required("vocab_size")?,
        max_positions: max_positions.unwrap_or(defaults.max_positions),
        norm_eps: json.optional("layer_norm_epsilon")?.unwrap_or(defaults.norm_eps),
        tied_head: json.optional("tie_word_embeddings")?.unwrap_or(defaults.tied_head),
        feed_forward,
        ..defaults
    })
}

fn write(config: &LlamaConfig) -> Value {
    let activation = match config.feed_forward {
        FeedForwardKind::Gelu => "gelu",
        FeedForwardKind::GeluTanh | FeedForwardKind::SwiGlu => "gelu_new",
    };
    json!({
        "activation_function": activation,
        "layer_norm_epsilon": config.norm_eps,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_inner": config.d_ff,
        "n_layer": config.n_layers,
        "n_positions": config.max_positions,
        "tie_word_embeddings": config.tied_head,
        "vocab_size": config.vocab_size,
    })
}
