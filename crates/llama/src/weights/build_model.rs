//! Named tensors ─► the model's modules.

use std::collections::HashMap;

use burn::tensor::Tensor;

use crate::config::{FeedForwardKind, LinearName, LlamaConfig, NormKind, PositionEmbedding};
use crate::model::{Attention, FeedForward, Layer, Linear, Llama, Norm, Weight};
use crate::precision::Precision;

/// A tensor on the device, as the model keeps it.
#[expect(clippy::large_enum_variant, reason = "tensor handles; a model has a few hundred")]
pub(super) enum LoadedTensor {
    /// Norm weights and biases.
    Vector(Tensor<1>),
    /// Everything else.
    Matrix(Weight),
}

/// Tensors by name.
pub(super) type TensorMap = HashMap<String, LoadedTensor>;

/// Builds the model from its tensors.
///
/// # Panics
/// If the map is not that of [`expected_tensors`](super::expected_tensors).
pub(super) fn build_model(
    config: LlamaConfig,
    precision: Precision,
    mut tensors: TensorMap,
) -> Llama {
    let mut take_tensor = |name: &str| tensors.remove(name).expect("the map was checked");
    let matrix = |name: &str, take: &mut dyn FnMut(&str) -> LoadedTensor| match take(name) {
        LoadedTensor::Matrix(weight) => weight,
        LoadedTensor::Vector(_) => unreachable!("the map was checked: {name} is a matrix"),
    };
    let vector = |name: &str, take: &mut dyn FnMut(&str) -> LoadedTensor| match take(name) {
        LoadedTensor::Vector(tensor) => tensor,
        LoadedTensor::Matrix(_) => unreachable!("the map was checked: {name} is a vector"),
    };
    let norm = |name: &str, take: &mut dyn FnMut(&str) -> LoadedTensor| {
        let weight = vector(&format!("{name}.weight"), take);
        let bias = (config.norm == NormKind::Layer).then(|| vector(&format!("{name}.bias"), take));
        Norm::new(config.norm, weight, bias, config.norm_eps)
    };
    let embedding = matrix("model.embed_tokens.weight", &mut take_tensor);
    let positions = (config.positions == PositionEmbedding::Learned)
        .then(|| matrix("model.embed_positions.weight", &mut take_tensor));
    let layers = (0..config.n_layers)
        .map(|layer| {
            let prefix = format!("model.layers.{layer}");
            let mut linear = |name: LinearName| {
                let (module, bias) = (name.module(), config.has_bias(name));
                let weight = matrix(&format!("{prefix}.{module}.weight"), &mut take_tensor);
                let bias =
                    bias.then(|| vector(&format!("{prefix}.{module}.bias"), &mut take_tensor));
                Linear::new(weight, bias)
            };
            let query = linear(LinearName::Query);
            let key = linear(LinearName::Key);
            let value = linear(LinearName::Value);
            let output = linear(LinearName::Output);
            let gated = config.feed_forward == FeedForwardKind::SwiGlu;
            let feed_forward = FeedForward {
                gate: gated.then(|| linear(LinearName::Gate)),
                up: linear(LinearName::Up),
                down: linear(LinearName::Down),
                kind: config.feed_forward,
            };
            let mut norm = |name: &str| norm(&format!("{prefix}.{name}"), &mut take_tensor);
            let attention = Attention {
                query,
                key,
                value,
                output,
                query_norm: config.qk_norm.then(|| norm("self_attn.q_norm")),
                key_norm: config.qk_norm.then(|| norm("self_attn.k_norm")),
                head_dim: config.head_dim,
                branch: config.branch,
                window: config.window(layer),
            };
            Layer {
                attention_norm: norm("input_layernorm"),
                attention,
                feed_forward_norm: norm("post_attention_layernorm"),
                feed_forward,
            }
        })
        .collect();
    let head =
        (!config.tied_head).then(|| Linear::new(matrix("lm_head.weight", &mut take_tensor), None));
    let norm = norm("model.norm", &mut take_tensor);
    Llama { embedding, positions, layers, norm, head, config, precision }
}
