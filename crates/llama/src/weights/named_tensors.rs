//! The model's modules ─► named tensors.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};

use crate::config::LinearName;
use crate::error::Result;
use crate::model::{Attention, Llama, Weight};
use crate::read_back::read_back;

/// A tensor of the model.
pub(super) enum TensorRef<'a> {
    Matrix(&'a Weight),
    Vector(&'a Param<Tensor<1>>),
}

impl TensorRef<'_> {
    /// Its values, on the host.
    pub(super) fn read(&self) -> Result<TensorData> {
        match self {
            Self::Matrix(weight) => read_back(weight.to_dense()),
            Self::Vector(vector) => read_back(vector.val()),
        }
    }
}

/// The model's tensors by canonical name, as [`expected_tensors`](super::expected_tensors) lists them.
pub(super) fn named_tensors(llama: &Llama) -> BTreeMap<String, TensorRef<'_>> {
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, tensor| {
        tensors.insert(name, tensor);
    };
    add("model.embed_tokens.weight".into(), TensorRef::Matrix(&llama.embedding));
    if let Some(positions) = &llama.positions {
        add("model.embed_positions.weight".into(), TensorRef::Matrix(positions));
    }
    let mut norms = vec![("model.norm".to_owned(), Some(&llama.norm))];
    for (index, layer) in llama.layers.iter().enumerate() {
        let prefix = format!("model.layers.{index}");
        for &name in LinearName::ALL_IN_LAYER {
            let Some(linear) = layer.linear(name) else { continue };
            let module = name.module();
            add(format!("{prefix}.{module}.weight"), TensorRef::Matrix(&linear.weight));
            if let Some(bias) = &linear.bias {
                add(format!("{prefix}.{module}.bias"), TensorRef::Vector(bias));
            }
        }
        let Attention { query_norm, key_norm, .. } = &layer.attention;
        let layer_norms = [
            ("self_attn.q_norm", query_norm.as_ref()),
            ("self_attn.k_norm", key_norm.as_ref()),
            ("input_layernorm", Some(&layer.attention_norm)),
            ("post_attention_layernorm", Some(&layer.feed_forward_norm)),
        ];
        norms.extend(layer_norms.map(|(name, norm)| (format!("{prefix}.{name}"), norm)));
    }
    for (name, norm) in norms {
        let Some(norm) = norm else { continue };
        add(format!("{name}.weight"), TensorRef::Vector(&norm.weight));
        if let Some(bias) = &norm.bias {
            add(format!("{name}.bias"), TensorRef::Vector(bias));
        }
    }
    if let Some(head) = &llama.head {
        add("lm_head.weight".into(), TensorRef::Matrix(&head.weight));
    }
    tensors
}
