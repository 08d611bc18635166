//! Named tensors ─► the model's modules, and back.

use std::collections::{BTreeMap, HashMap};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};

use crate::attention::Attention;
use crate::config::{FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding};
use crate::error::Result;
use crate::feed_forward::FeedForward;
use crate::layer::Layer;
use crate::linear::Linear;
use crate::model::Llama;
use crate::norm::Norm;
use crate::precision::Precision;
use crate::read_back::read_back;
use crate::weight::Weight;

/// A tensor on the device, as the model will keep it.
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a model has a few hundred")]
pub(super) enum Stored {
    /// Of norms and biases.
    Vector(Tensor<1>),
    /// Everything else.
    Matrix(Weight),
}

/// Tensors by name.
pub(super) type TensorMap = HashMap<String, Stored>;

/// Builds the model of a complete map, as [`expected_tensors`] lists it.
pub(super) fn assemble(config: LlamaConfig, precision: Precision, mut tensors: TensorMap) -> Llama {
    let mut stored = |name: &str| tensors.remove(name).expect("the map was checked");
    let matrix = |name: &str, stored: &mut dyn FnMut(&str) -> Stored| match stored(name) {
        Stored::Matrix(weight) => weight,
        Stored::Vector(_) => unreachable!("the map was checked: {name} is a matrix"),
    };
    let vector = |name: &str, stored: &mut dyn FnMut(&str) -> Stored| match stored(name) {
        Stored::Vector(tensor) => tensor,
        Stored::Matrix(_) => unreachable!("the map was checked: {name} is a vector"),
    };
    let norm = |name: &str, stored: &mut dyn FnMut(&str) -> Stored| {
        let weight = vector(&format!("{name}.weight"), stored);
        let bias =
            (config.norm == NormKind::Layer).then(|| vector(&format!("{name}.bias"), stored));
        Norm::new(config.norm, weight, bias, config.norm_eps)
    };
    let embedding = matrix("model.embed_tokens.weight", &mut stored);
    let positions = (config.positions == PositionEmbedding::Learned)
        .then(|| matrix("model.embed_positions.weight", &mut stored));
    let layers = (0..config.n_layers)
        .map(|layer| {
            let prefix = format!("model.layers.{layer}");
            let mut linear = |name: &str, bias: bool| {
                let weight = matrix(&format!("{prefix}.{name}.weight"), &mut stored);
                let bias = bias.then(|| vector(&format!("{prefix}.{name}.bias"), &mut stored));
                Linear::new(weight, bias)
            };
            let query = linear("self_attn.q_proj", config.qkv_bias);
            let key = linear("self_attn.k_proj", config.qkv_bias);
            let value = linear("self_attn.v_proj", config.qkv_bias);
            let output = linear("self_attn.o_proj", config.output_bias);
            let gated = config.feed_forward == FeedForwardKind::SwiGlu;
            let feed_forward = FeedForward {
                gate: gated.then(|| linear("mlp.gate_proj", config.mlp_bias)),
                up: linear("mlp.up_proj", config.mlp_bias),
                down: linear("mlp.down_proj", config.mlp_bias),
                kind: config.feed_forward,
            };
            let mut norm = |name: &str| norm(&format!("{prefix}.{name}"), &mut stored);
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
        (!config.tied_head).then(|| Linear::new(matrix("lm_head.weight", &mut stored), None));
    let norm = norm("model.norm", &mut stored);
    Llama { embedding, positions, layers, norm, head, config, precision }
}

/// A tensor of the model where it is.
pub(super) enum Part<'a> {
    Matrix(&'a Weight),
    Vector(&'a Param<Tensor<1>>),
}

impl Part<'_> {
    /// Its numbers, on the host.
    pub(super) fn read(&self) -> Result<TensorData> {
        match self {
            Self::Matrix(weight) => read_back(weight.to_dense()),
            Self::Vector(vector) => read_back(vector.val()),
        }
    }
}

/// The model's tensors by our names.
pub(super) fn disassemble(llama: &Llama) -> BTreeMap<String, Part<'_>> {
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, part| {
        tensors.insert(name, part);
    };
    add("model.embed_tokens.weight".into(), Part::Matrix(&llama.embedding));
    if let Some(positions) = &llama.positions {
        add("model.embed_positions.weight".into(), Part::Matrix(positions));
    }
    let mut norms = vec![("model.norm".to_owned(), Some(&llama.norm))];
    for (index, layer) in llama.layers.iter().enumerate() {
        let prefix = format!("model.layers.{index}");
        let Attention { query, key, value, output, query_norm, key_norm, .. } = &layer.attention;
        let FeedForward { gate, up, down, .. } = &layer.feed_forward;
        let linears = [
            ("self_attn.q_proj", Some(query)),
            ("self_attn.k_proj", Some(key)),
            ("self_attn.v_proj", Some(value)),
            ("self_attn.o_proj", Some(output)),
            ("mlp.gate_proj", gate.as_ref()),
            ("mlp.up_proj", Some(up)),
            ("mlp.down_proj", Some(down)),
        ];
        for (name, linear) in linears {
            let Some(linear) = linear else { continue };
            add(format!("{prefix}.{name}.weight"), Part::Matrix(&linear.weight));
            if let Some(bias) = &linear.bias {
                add(format!("{prefix}.{name}.bias"), Part::Vector(bias));
            }
        }
        let named = [
            ("self_attn.q_norm", query_norm.as_ref()),
            ("self_attn.k_norm", key_norm.as_ref()),
            ("input_layernorm", Some(&layer.attention_norm)),
            ("post_attention_layernorm", Some(&layer.feed_forward_norm)),
        ];
        norms.extend(named.map(|(name, norm)| (format!("{prefix}.{name}"), norm)));
    }
    for (name, norm) in norms {
        let Some(norm) = norm else { continue };
        add(format!("{name}.weight"), Part::Vector(&norm.weight));
        if let Some(bias) = &norm.bias {
            add(format!("{name}.bias"), Part::Vector(bias));
        }
    }
    if let Some(head) = &llama.head {
        add("lm_head.weight".into(), Part::Matrix(&head.weight));
    }
    tensors
}
