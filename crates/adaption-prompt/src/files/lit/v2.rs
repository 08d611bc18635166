//! Version 2 of lit-llama's and litgpt's adapters: scales and biases of linear layers, norms.
//!
//! Query, key and value are one linear layer. lit-llama keeps Meta's row order, in which neighboring rows are
//! rotated together. Scales and biases depend on this order, prompts do not.

use std::collections::BTreeMap;

use llama::LinearName;
use llama::config::ModelShape;
use llama::model::NormName;

use super::names::{BIAS, FINAL_NORM, FUSED, HEAD, LAYERS, LINEARS, LitFormat, NORMS, SCALE};
use crate::parts::{V2Data, V2LinearData, V2NormData, V2Scale};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use llama::weights::{deinterleave_rotary, interleave_rotary};

/// Adapter V2 from the layers' tensors and those of no layer. Other tensors are added to `problems`.
pub(super) fn read_v2(
    layers: BTreeMap<usize, BTreeMap<String, HostTensor>>,
    global_tensors: HostTensors,
    sizes: Option<&ModelShape>,
    problems: &mut Vec<String>,
) -> V2Data {
    let last = layers.keys().next_back().map_or(0, |last| last.saturating_add(1));
    let n_layers = sizes.map_or(last, |sizes| sizes.n_layers);
    let mut data = V2Data::new(V2Scale::Output);
    let mut insert = |layer, name, suffix: &str, values: Vec<f32>| {
        let own: &mut V2LinearData = data.linears.entry((layer, name)).or_default();
        match suffix {
            SCALE => own.scale = Some(values),
            _ => own.bias = Some(values),
        }
    };
    let mut norms = BTreeMap::new();
    for (layer, tensors) in layers {
        for (name, tensor) in tensors {
            let norm = NORMS.iter().find(|(_, llama, gpt)| [*llama, *gpt].contains(&&*name));
            if let Some((norm, _, _)) = norm {
                norms.insert((layer, *norm), V2NormData { weight: tensor.values, bias: None });
                continue;
            }
            let Some((module, suffix)) = name.rsplit_once('.') else { continue };
            let linear = LINEARS.iter().find(|(_, llama, gpt)| [*llama, *gpt].contains(&module));
            if let Some((linear, _, _)) = linear {
                insert(layer, *linear, suffix, tensor.values);
                continue;
            }
            let fused = FUSED.iter().find(|(fused, _, _)| *fused == module);
            let Some(&(_, format, by_group)) = fused else {
                problems.push(format!("unexpected: {LAYERS}{layer}.{name}"));
                continue;
            };
            let parts = match sizes {
                Some(sizes) => split_qkv(&tensor.values, sizes, format, by_group),
                None => Some(split_evenly(&tensor.values)),
            };
            match parts {
                Some(parts) => {
                    let linears = [LinearName::Query, LinearName::Key, LinearName::Value];
                    for (linear, values) in linears.into_iter().zip(parts) {
                        insert(layer, linear, suffix, values);
                    }
                }
                None => problems.push(format!(
                    "{LAYERS}{layer}.{name}: {:?} is not the model's query, key and value{}",
                    tensor.shape,
                    sizes.map_or(String::new(), |sizes| format!(
                        ", of {} and twice {} heads of {}",
                        sizes.n_heads, sizes.n_kv_heads, sizes.head_dim
                    ))
                )),
            }
        }
    }
    for (name, tensor) in global_tensors {
        if let Some(suffix) = name.strip_prefix(HEAD) {
            insert(n_layers, LinearName::Head, suffix, tensor.values);
        } else {
            let norm = V2NormData { weight: tensor.values, bias: None };
            norms.insert((n_layers, NormName::Final), norm);
        }
    }
    V2Data { norms, ..data }
}

/// Three parts of about the same length.
fn split_evenly(values: &[f32]) -> [Vec<f32>; 3] {
    let (first, rest) = values.split_at(values.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [first, second, third].map(<[f32]>::to_vec)
}

/// Query, key and value rows of a fused tensor, in Hugging Face's order; `None` for another length.
fn split_qkv(
    values: &[f32],
    sizes: &ModelShape,
    format: LitFormat,
    by_group: bool,
) -> Option<[Vec<f32>; 3]> {
    let ModelShape { n_heads, n_kv_heads, head_dim, .. } = *sizes;
    if values.len() != (n_heads + 2 * n_kv_heads) * head_dim || n_kv_heads == 0 {
        return None;
    }
    if by_group {
        let group = n_heads / n_kv_heads * head_dim;
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for group_values in values.chunks_exact(group + 2 * head_dim) {
            parts[0].extend_from_slice(&group_values[..group]);
            parts[1].extend_from_slice(&group_values[group..group + head_dim]);
            parts[2].extend_from_slice(&group_values[group + head_dim..]);
        }
        return Some(parts);
    }
    let (query, rest) = values.split_at(n_heads * head_dim);
    let (key, value) = rest.split_at(n_kv_heads * head_dim);
    let reorder = |rows: &[f32]| match format {
        LitFormat::Llama => deinterleave_rotary(rows, 1, head_dim),
        LitFormat::Gpt => Some(rows.to_vec()),
    };
    Some([reorder(query)?, reorder(key)?, value.to_vec()])
}

/// Adds the tensors of Adapter V2, with every scale and bias of every layer.
pub(super) fn write_v2(
    tensors: &mut HostTensors,
    v2: &V2Data,
    sizes: &ModelShape,
    format: LitFormat,
) {
    let scale_and_bias = |layer: usize, name: LinearName| {
        let own = v2.linears.get(&(layer, name)).cloned().unwrap_or_default();
        let [d_out, _d_in] = sizes.linear_shape(name);
        let filled = |own: Option<Vec<f32>>, value: f32| own.unwrap_or_else(|| vec![value; d_out]);
        [(SCALE, filled(own.scale, 1.0)), (BIAS, filled(own.bias, 0.0))]
    };
    let mut insert = |name: String, values: Vec<f32>| {
        tensors.insert(name, HostTensor::new([values.len()], values));
    };
    for layer in 0..sizes.n_layers {
        for (name, llama, gpt) in LINEARS {
            let module = format.select(llama, gpt);
            for (suffix, values) in scale_and_bias(layer, name) {
                insert(format!("{LAYERS}{layer}.{module}.{suffix}"), values);
            }
        }
        let linears = [LinearName::Query, LinearName::Key, LinearName::Value];
        let [query, key, value] = linears.map(|name| scale_and_bias(layer, name));
        for ((query, key), value) in query.into_iter().zip(key).zip(value) {
            let reorder = |rows: Vec<f32>| match format {
                LitFormat::Llama => interleave_rotary(&rows, 1, sizes.head_dim).unwrap_or(rows),
                LitFormat::Gpt => rows,
            };
            let fused = [reorder(query.1), reorder(key.1), value.1].concat();
            let module = format.select("attn.c_attn", "attn.qkv");
            insert(format!("{LAYERS}{layer}.{module}.{}", query.0), fused);
        }
    }
    if v2.linears.contains_key(&(sizes.n_layers, LinearName::Head)) {
        for (suffix, values) in scale_and_bias(sizes.n_layers, LinearName::Head) {
            insert(format!("{HEAD}{suffix}"), values);
        }
    }
    for ((layer, name), own) in &v2.norms {
        let norm = NORMS.iter().find(|(norm, _, _)| norm == name);
        let name = match norm {
            Some((_, llama, gpt)) => format!("{LAYERS}{layer}.{}", format.select(llama, gpt)),
            None => format.select(FINAL_NORM[0], FINAL_NORM[1]).to_owned(),
        };
        insert(name, own.weight.clone());
    }
}
