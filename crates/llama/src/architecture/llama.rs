//! Llama 1 to 3.2, TinyLlama, SmolLM, SmolLM2.

use checkpoint::settings::Fields;
use serde_json::Value;

use super::llama_like::{
    COMMON_KEYS, TENSOR_NAMES, check_uniform_layer_types, read_common, write_common,
};
use crate::config::{
    Architecture, BranchPoint, FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding,
    RopeConfig, RopeScaling,
};
use crate::error::Result;

pub(super) static LLAMA: Architecture = Architecture {
    name: "llama",
    class_name: "LlamaForCausalLM",
    gguf_name: "llama",
    multi_head_only: false,
    gguf_rotary_interleaved: true,
    tensor_names: TENSOR_NAMES,
    config_keys: &[COMMON_KEYS, &["attention_bias", "layer_types", "mlp_bias"]],
    defaults,
    read,
    write,
};

fn defaults() -> LlamaConfig {
    LlamaConfig { architecture: &LLAMA, ..LlamaConfig::default() }
}

fn read(json: &Fields<'_>, defaults: LlamaConfig) -> Result<LlamaConfig> {
    let attention_bias = json.optional("attention_bias")?.unwrap_or(false);
    let config = LlamaConfig {
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: json.optional("mlp_bias")?.unwrap_or(false),
        // transformers' Llama has no sliding window, even if a file names one.
        ..read_common(json, defaults)?
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

/// A plain Llama whose sizes are zero.
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
