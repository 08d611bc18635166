//! Names and shapes of the tensors of a config.

use checkpoint::TensorSpec;

use crate::config::{LinearName, LlamaConfig, ModelShape, NormKind, PositionEmbedding};

impl LlamaConfig {
    /// Number of parameters; a tied head counts once.
    pub fn n_parameters(&self) -> usize {
        expected_tensors(self).iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }
}

/// The tensors of a model with this config, in the order of its layers, with canonical names (those of a
/// Hugging Face Llama).
pub fn expected_tensors(config: &LlamaConfig) -> Vec<TensorSpec> {
    let shape = ModelShape::from(config);
    let LlamaConfig { d_model, vocab_size, .. } = *config;
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
        for &name in LinearName::ALL_IN_LAYER {
            if shape.has_linear(layer, name) {
                module(name.module(), &shape.linear_shape(name), config.has_bias(name));
            }
        }
        if config.qk_norm {
            module("self_attn.q_norm", &[config.head_dim], norm_bias);
            module("self_attn.k_norm", &[config.head_dim], norm_bias);
        }
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
