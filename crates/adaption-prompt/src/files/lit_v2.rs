//! Version 2 of lit-llama's and litgpt's adapters: scales and biases of linear layers, norms.
//!
//! Query, key and value are one linear layer there. lit-llama keeps Meta's order of rows, in which
//! neighbours are rotated together; prompts do not care, scales and biases do.

use std::collections::BTreeMap;

use llama::LinearName;
use llama::config::ModelShape;
use llama::model::NormName;
use llama::weights::{deinterleave_rotary, interleave_rotary};

use super::lit::LitFormat;
use super::tensors::{Array, Arrays};
use crate::data::{V2Data, V2LinearData, V2NormData};
use crate::v2::V2Scale;

/// Names of the linear layers that are one on both sides: in lit-llama, in litgpt.
const LINEARS: [(LinearName, &str, &str); 4] = [
    (LinearName::Output, "attn.c_proj", "attn.proj"),
    (LinearName::Gate, "mlp.c_fc1", "mlp.fc_1"),
    (LinearName::Up, "mlp.c_fc2", "mlp.fc_2"),
    (LinearName::Down, "mlp.c_proj", "mlp.proj"),
];

/// Names of the linear layer that makes query, key and value. litgpt's second one is of its older
/// versions: there each group of heads has its queries, its key and its value beside each other.
const FUSED: [(&str, LitFormat, bool); 3] = [
    ("attn.c_attn", LitFormat::Llama, false),
    ("attn.qkv", LitFormat::Gpt, false),
    ("attn.attn", LitFormat::Gpt, true),
];

const NORMS: [(NormName, &str, &str); 2] = [
    (NormName::Attention, "rms_1.scale", "norm_1.weight"),
    (NormName::FeedForward, "rms_2.scale", "norm_2.weight"),
];

const FINAL_NORM: [&str; 2] = ["transformer.ln_f.scale", "transformer.ln_f.weight"];

/// Whether a tensor is a norm: of version 2, or of a model whose adapter is in the same file.
pub(crate) fn is_norm(name: &str) -> bool {
    FINAL_NORM.contains(&name)
        || name.starts_with("transformer.h.")
            && NORMS.iter().any(|(_, llama, gpt)| name.ends_with(llama) || name.ends_with(gpt))
}

/// Whether a tensor of version 2 is of no layer.
pub(crate) fn is_global_tensor(name: &str) -> bool {
    FINAL_NORM.contains(&name) || name.starts_with("lm_head.")
}

/// The numbers among a file's tensors; those that are none of version 2's are problems.
pub(crate) fn read_v2(
    layers: BTreeMap<usize, BTreeMap<String, Array>>,
    rest: Arrays,
    sizes: Option<&ModelShape>,
    problems: &mut Vec<String>,
) -> V2Data {
    let last = layers.keys().next_back().map_or(0, |last| last.saturating_add(1));
    let n_layers = sizes.map_or(last, |sizes| sizes.n_layers);
    let mut data =
        V2Data { scale: V2Scale::Output, linears: BTreeMap::new(), norms: BTreeMap::new() };
    let mut put = |layer, name, what: &str, values: Vec<f32>| {
        let own: &mut V2LinearData = data.linears.entry((layer, name)).or_default();
        match what {
            "adapter_scale" => own.scale = Some(values),
            _ => own.bias = Some(values),
        }
    };
    let mut norms = BTreeMap::new();
    for (layer, parts) in layers {
        for (part, array) in parts {
            let norm = NORMS.iter().find(|(_, llama, gpt)| [*llama, *gpt].contains(&&*part));
            if let Some((name, _, _)) = norm {
                norms.insert((layer, *name), V2NormData { weight: array.values, bias: None });
                continue;
            }
            let Some((place, what)) = part.rsplit_once('.') else { continue };
            let linear = LINEARS.iter().find(|(_, llama, gpt)| [*llama, *gpt].contains(&place));
            if let Some((name, _, _)) = linear {
                put(layer, *name, what, array.values);
                continue;
            }
            let fused = FUSED.iter().find(|(name, _, _)| *name == place);
            let Some(&(_, lit, interleaved)) = fused else {
                problems.push(format!("unexpected: transformer.h.{layer}.{part}"));
                continue;
            };
            let parts = match sizes {
                Some(sizes) => split(&array.values, sizes, lit, interleaved),
                None => Some(thirds(&array.values)),
            };
            match parts {
                Some(parts) => {
                    let names = [LinearName::Query, LinearName::Key, LinearName::Value];
                    for (name, values) in names.into_iter().zip(parts) {
                        put(layer, name, what, values);
                    }
                }
                None => problems.push(format!(
                    "transformer.h.{layer}.{part}: {:?} is not the model's query, key and value{}",
                    array.shape,
                    sizes.map_or(String::new(), |sizes| format!(
                        ", of {} and twice {} heads of {}",
                        sizes.n_heads, sizes.n_kv_heads, sizes.head_dim
                    ))
                )),
            }
        }
    }
    for (name, array) in rest {
        if let Some(what) = name.strip_prefix("lm_head.") {
            put(n_layers, LinearName::Head, what, array.values);
        } else {
            let place = (n_layers, NormName::Final);
            norms.insert(place, V2NormData { weight: array.values, bias: None });
        }
    }
    V2Data { norms, ..data }
}

/// Three parts of some numbers, none left out.
fn thirds(values: &[f32]) -> [Vec<f32>; 3] {
    let (first, rest) = values.split_at(values.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [first, second, third].map(<[f32]>::to_vec)
}

/// Query, key and value out of one, in Hugging Face's order of rows.
fn split(
    values: &[f32],
    sizes: &ModelShape,
    lit: LitFormat,
    interleaved: bool,
) -> Option<[Vec<f32>; 3]> {
    let ModelShape { n_heads, n_kv_heads, head_dim, .. } = *sizes;
    if values.len() != (n_heads + 2 * n_kv_heads) * head_dim || n_kv_heads == 0 {
        return None;
    }
    if interleaved {
        let group = n_heads / n_kv_heads * head_dim;
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for of_group in values.chunks_exact(group + 2 * head_dim) {
            parts[0].extend_from_slice(&of_group[..group]);
            parts[1].extend_from_slice(&of_group[group..group + head_dim]);
            parts[2].extend_from_slice(&of_group[group + head_dim..]);
        }
        return Some(parts);
    }
    let (query, rest) = values.split_at(n_heads * head_dim);
    let (key, value) = rest.split_at(n_kv_heads * head_dim);
    let order = |rows: &[f32]| match lit {
        LitFormat::Llama => deinterleave_rotary(rows, 1, head_dim),
        LitFormat::Gpt => Some(rows.to_vec()),
    };
    Some([order(query)?, order(key)?, value.to_vec()])
}

/// Adds the numbers to a file's tensors.
pub(crate) fn write_v2(arrays: &mut Arrays, v2: &V2Data, sizes: &ModelShape, lit: LitFormat) {
    let whole = |layer: usize, name: LinearName| {
        let own = v2.linears.get(&(layer, name)).cloned().unwrap_or_default();
        let [d_out, _d_in] = sizes.linear_shape(name);
        let filled = |own: Option<Vec<f32>>, value: f32| own.unwrap_or_else(|| vec![value; d_out]);
        [("adapter_scale", filled(own.scale, 1.0)), ("adapter_bias", filled(own.bias, 0.0))]
    };
    let mut put = |name: String, values: Vec<f32>| {
        arrays.insert(name, Array::new([values.len()], values));
    };
    let pick = |llama, gpt| if lit == LitFormat::Llama { llama } else { gpt };
    for layer in 0..sizes.n_layers {
        for (name, llama, gpt) in LINEARS {
            for (what, values) in whole(layer, name) {
                put(format!("transformer.h.{layer}.{}.{what}", pick(llama, gpt)), values);
            }
        }
        let parts = [LinearName::Query, LinearName::Key, LinearName::Value];
        let [query, key, value] = parts.map(|name| whole(layer, name));
        for ((query, key), value) in query.into_iter().zip(key).zip(value) {
            let order = |rows: Vec<f32>| match lit {
                LitFormat::Llama => interleave_rotary(&rows, 1, sizes.head_dim).unwrap_or(rows),
                LitFormat::Gpt => rows,
            };
            let fused = [order(query.1), order(key.1), value.1].concat();
            let place = pick("attn.c_attn", "attn.qkv");
            put(format!("transformer.h.{layer}.{place}.{}", query.0), fused);
        }
    }
    if v2.linears.contains_key(&(sizes.n_layers, LinearName::Head)) {
        for (what, values) in whole(sizes.n_layers, LinearName::Head) {
            put(format!("lm_head.{what}"), values);
        }
    }
    for ((layer, name), own) in &v2.norms {
        let place = NORMS.iter().find(|(norm, _, _)| norm == name);
        let place = match place {
            Some((_, llama, gpt)) => format!("transformer.h.{layer}.{}", pick(llama, gpt)),
            None => pick(FINAL_NORM[0], FINAL_NORM[1]).to_owned(),
        };
        put(place, own.weight.clone());
    }
}
