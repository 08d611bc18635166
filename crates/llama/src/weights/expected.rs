//! A config ─► names and shapes of its tensors.

use checkpoint::TensorSpec;

use crate::config::{FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding};

impl LlamaConfig {
    /// Numbers in the model's weights; a tied head counts once.
    pub fn n_parameters(&self) -> usize {
        expected_tensors(self).iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }
}

/// The tensors that a model of this config has, in the order of its layers.
pub fn expected_tensors(config: &LlamaConfig) -> Vec<TensorSpec> {
    let LlamaConfig { d_model, d_ff, vocab_size, .. } = *config;
    let query = config.n_heads * config.head_dim;
    let kv = config.n_kv_heads * config.head_dim;
    let norm_bias = config.norm == NormKind::Layer;
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        specs.push(TensorSpec { name, shape: shape.to_vec() });
    };
    add("model.embed_tokens.weight".into(), &[vocab_size, d_model]);
    if config.positions == PositionEmbedding::Learned {
        add("model.embed_positions.weight".into(), &[config.max_positions, d_model]);
    }
    for layer in 0..config.n_layers {
        let mut module = |name: &str, shape: &[usize], bias: bool| {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
            if bias {
                add(format!("model.layers.{layer}.{name}.bias"), &shape[..1]);
            }
        };
        module("self_attn.q_proj", &[query, d_model], config.qkv_bias);
        module("self_attn.k_proj", &[kv, d_model], config.qkv_bias);
        module("self_attn.v_proj", &[kv, d_model], config.qkv_bias);
        module("self_attn.o_proj", &[d_model, query], config.output_bias);
        if config.qk_norm {
            module("self_attn.q_norm", &[config.head_dim], norm_bias);
            module("self_attn.k_norm", &[config.head_dim], norm_bias);
        }
        if config.feed_forward == FeedForwardKind::SwiGlu {
            module("mlp.gate_proj", &[d_ff, d_model], config.mlp_bias);
        }
        module("mlp.up_proj", &[d_ff, d_model], config.mlp_bias);
        module("mlp.down_proj", &[d_model, d_ff], config.mlp_bias);
        module("input_layernorm", &[d_model], norm_bias);
        module("post_attention_layernorm", &[d_model], norm_bias);
    }
    add("model.norm.weight".into(), &[d_model]);
    if norm_bias {
        add("model.norm.bias".into(), &[d_model]);
    }
    if !config.tied_head {
        add("lm_head.weight".into(), &[vocab_size, d_model]);
    }
    specs
}
