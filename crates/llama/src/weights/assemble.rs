//! Named tensors ─► the model's modules, and back.

use std::collections::HashMap;

use burn::tensor::{Tensor, TensorData};

use super::expected_tensors;
use crate::attention::Attention;
use crate::config::LlamaConfig;
use crate::feed_forward::FeedForward;
use crate::layer::Layer;
use crate::linear::Linear;
use crate::model::Llama;
use crate::norm::RmsNorm;
use crate::precision::Precision;
use crate::quantised::Quantised;
use crate::weight::Weight;

/// A tensor on the device, as the model will keep it.
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a model has a few hundred")]
pub(super) enum Stored {
    /// Flat.
    Dense(Tensor<1>),
    /// A matrix.
    Quantised(Quantised),
}

/// Tensors by name.
pub(super) type TensorMap = HashMap<String, Stored>;

/// Builds the model of a complete map, as [`expected_tensors`] lists it.
pub(super) fn assemble(config: LlamaConfig, precision: Precision, mut tensors: TensorMap) -> Llama {
    let mut shapes: HashMap<_, _> =
        expected_tensors(&config).into_iter().map(|spec| (spec.name, spec.shape)).collect();
    let mut stored = |name: &str| tensors.remove(name).expect("the map was checked");
    let mut matrix = |name: &str, stored: &mut dyn FnMut(&str) -> Stored| match stored(name) {
        Stored::Dense(tensor) => {
            let shape = shapes.remove(name).expect("the map was checked");
            Weight::from(tensor.reshape([shape[0], shape[1]]))
        }
        Stored::Quantised(quantised) => quantised.into(),
    };
    let vector = |name: &str, stored: &mut dyn FnMut(&str) -> Stored| match stored(name) {
        Stored::Dense(tensor) => tensor,
        Stored::Quantised(_) => unreachable!("matrices alone are quantised"),
    };
    let embedding = matrix("model.embed_tokens.weight", &mut stored);
    let layers = (0..config.n_layers)
        .map(|layer| {
            let prefix = format!("model.layers.{layer}");
            let mut linear = |name: &str, bias: bool| {
                let weight = matrix(&format!("{prefix}.{name}.weight"), &mut stored);
                let bias = bias.then(|| vector(&format!("{prefix}.{name}.bias"), &mut stored));
                Linear::new(weight, bias)
            };
            let attention = Attention {
                query: linear("self_attn.q_proj", config.qkv_bias),
                key: linear("self_attn.k_proj", config.qkv_bias),
                value: linear("self_attn.v_proj", config.qkv_bias),
                output: linear("self_attn.o_proj", config.output_bias),
                head_dim: config.head_dim,
            };
            let feed_forward = FeedForward {
                gate: linear("mlp.gate_proj", config.mlp_bias),
                up: linear("mlp.up_proj", config.mlp_bias),
                down: linear("mlp.down_proj", config.mlp_bias),
            };
            let mut norm = |name: &str| {
                RmsNorm::new(vector(&format!("{prefix}.{name}"), &mut stored), config.norm_eps)
            };
            Layer {
                attention_norm: norm("input_layernorm.weight"),
                attention,
                feed_forward_norm: norm("post_attention_layernorm.weight"),
                feed_forward,
            }
        })
        .collect();
    let head =
        (!config.tied_head).then(|| Linear::new(matrix("lm_head.weight", &mut stored), None));
    let norm = RmsNorm::new(vector("model.norm.weight", &mut stored), config.norm_eps);
    Llama::assemble(config, precision, embedding, layers, norm, head)
}

/// The model's tensors by Hugging Face's names, in the order of [`expected_tensors`].
pub(super) fn disassemble(llama: &Llama) -> Vec<(String, TensorData)> {
    let mut tensors = HashMap::new();
    let mut add = |name: String, data: TensorData| {
        tensors.insert(name, data);
    };
    add("model.embed_tokens.weight".into(), llama.embedding.to_dense().into_data());
    for (index, layer) in llama.layers.iter().enumerate() {
        let prefix = format!("model.layers.{index}");
        let Attention { query, key, value, output, .. } = &layer.attention;
        let FeedForward { gate, up, down } = &layer.feed_forward;
        let linears = [
            ("self_attn.q_proj", query),
            ("self_attn.k_proj", key),
            ("self_attn.v_proj", value),
            ("self_attn.o_proj", output),
            ("mlp.gate_proj", gate),
            ("mlp.up_proj", up),
            ("mlp.down_proj", down),
        ];
        for (name, linear) in linears {
            add(format!("{prefix}.{name}.weight"), linear.weight.to_dense().into_data());
            if let Some(bias) = &linear.bias {
                add(format!("{prefix}.{name}.bias"), bias.val().to_data());
            }
        }
        for (name, norm) in [
            ("input_layernorm", &layer.attention_norm),
            ("post_attention_layernorm", &layer.feed_forward_norm),
        ] {
            add(format!("{prefix}.{name}.weight"), norm.weight.val().to_data());
        }
    }
    add("model.norm.weight".into(), llama.norm.weight.val().to_data());
    if let Some(head) = &llama.head {
        add("lm_head.weight".into(), head.weight.to_dense().into_data());
    }
    expected_tensors(llama.config())
        .into_iter()
        .map(|spec| {
            let data = tensors.remove(&spec.name).expect("every tensor was added");
            (spec.name, data)
        })
        .collect()
}
