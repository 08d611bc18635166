//! lit-llama's and litgpt's adapters, versions 1 and 2.
//!
//! ```text
//! transformer.h.{i}.attn.adapter_wte.weight    [K, C]
//! transformer.h.{i}.attn.gating_factor         [1, H, 1, 1]; litgpt: [1, 1, H, 1]
//! ...adapter_scale, ...adapter_bias            version 2, on every linear layer
//! ...rms_1.scale; litgpt: ...norm_1.weight     version 2, every norm
//! ```
//!
//! Query, key and value are one linear layer there. lit-llama keeps Meta's order of rows, in which
//! neighbours are rotated together; prompts do not care, scales and biases do.

use std::collections::BTreeMap;
use std::path::Path;

use llama::{LinearName, NormName, Sizes};

use super::tensors::{Array, Arrays};
use super::torch;
use crate::config::{Activation, Gate};
use crate::data::{
    AdapterData, BaseInfo, PromptData, PromptLayer, V2Data, V2LinearData, V2NormData,
};
use crate::error::{Error, Result};
use crate::v2::Scale;

/// Whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lit {
    Llama,
    Gpt,
}

/// Names of the linear layers that are one on both sides: in lit-llama, in litgpt.
const LINEARS: [(LinearName, &str, &str); 4] = [
    (LinearName::Output, "attn.c_proj", "attn.proj"),
    (LinearName::Gate, "mlp.c_fc1", "mlp.fc_1"),
    (LinearName::Up, "mlp.c_fc2", "mlp.fc_2"),
    (LinearName::Down, "mlp.c_proj", "mlp.proj"),
];

/// Names of the linear layer that makes query, key and value. litgpt's second one is of its older
/// versions: there each group of heads has its queries, its key and its value beside each other.
const FUSED: [(&str, Lit, bool); 3] = [
    ("attn.c_attn", Lit::Llama, false),
    ("attn.qkv", Lit::Gpt, false),
    ("attn.attn", Lit::Gpt, true),
];

const NORMS: [(NormName, &str, &str); 2] = [
    (NormName::Attention, "rms_1.scale", "norm_1.weight"),
    (NormName::FeedForward, "rms_2.scale", "norm_2.weight"),
];

const FINAL_NORM: [&str; 2] = ["transformer.ln_f.scale", "transformer.ln_f.weight"];

/// Whether a tensor is of version 2 alone, and no norm.
fn is_tuned(name: &str) -> bool {
    let last = |suffix: &str| name.ends_with(suffix);
    (name.starts_with("transformer.h.") || name.starts_with("lm_head."))
        && (last(".adapter_scale") || last(".adapter_bias"))
}

/// Whether a tensor is one that only such an adapter has.
pub(crate) fn knows(name: &str) -> bool {
    let last = |suffix: &str| name.ends_with(suffix);
    is_tuned(name)
        || name.starts_with("transformer.h.")
            && (last(".adapter_wte.weight") || last(".gating_factor"))
}

/// Whether a tensor is a norm: of version 2, or of a model whose adapter is in the same file.
fn is_norm(name: &str) -> bool {
    FINAL_NORM.contains(&name)
        || name.starts_with("transformer.h.")
            && NORMS.iter().any(|(_, llama, gpt)| name.ends_with(llama) || name.ends_with(gpt))
}

/// What version 2 is read for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// To be used: the model's sizes tell query, key and value apart.
    Use(Option<&'a Sizes>),
    /// To be shown: it does not matter which number is of which of the three.
    Show,
}

/// Reads a file.
pub(crate) fn read(path: &Path, purpose: Purpose<'_>) -> Result<AdapterData> {
    let mut arrays = torch::read(path, |name| knows(name) || is_norm(name))?;
    let tuned = arrays.keys().any(|name| is_tuned(name));
    if !tuned {
        arrays.retain(|name, _| knows(name));
    }
    let wrong = |problems| Error::Tensors { path: path.into(), problems };
    let mut problems = Vec::new();
    let mut layers: BTreeMap<usize, BTreeMap<String, Array>> = BTreeMap::new();
    let mut rest = Arrays::new();
    for (name, array) in arrays {
        let split = name.strip_prefix("transformer.h.").and_then(|name| name.split_once('.'));
        match split.and_then(|(layer, part)| Some((layer.parse::<usize>().ok()?, part))) {
            Some((layer, part)) => {
                layers.entry(layer).or_default().insert(part.to_owned(), array);
            }
            None => {
                rest.insert(name, array);
            }
        }
    }
    let prompts = prompts(&mut layers, &mut problems);
    let v2 = match (tuned, purpose) {
        (false, _) => None,
        (true, Purpose::Use(None)) => {
            let (to, what) = ("reading Adapter V2", "the model's heads");
            return Err(Error::Unknown { to, what });
        }
        (true, Purpose::Use(sizes)) => Some(v2(layers, rest, sizes, &mut problems)),
        (true, Purpose::Show) => Some(v2(layers, rest, None, &mut problems)),
    };
    if prompts.is_none() && v2.is_none() {
        problems.push("no prompts".into());
    }
    if !problems.is_empty() {
        return Err(wrong(problems));
    }
    Ok(AdapterData { base: BaseInfo::default(), prompts, v2, lora: None })
}

fn prompts(
    layers: &mut BTreeMap<usize, BTreeMap<String, Array>>,
    problems: &mut Vec<String>,
) -> Option<PromptData> {
    let mut found = BTreeMap::new();
    let (mut adapter_len, mut d_model, mut heads) = (0, 0, 0);
    for (&layer, parts) in layers {
        let prompt = parts.remove("attn.adapter_wte.weight");
        let gate = parts.remove("attn.gating_factor");
        let (prompt, gate) = match (prompt, gate) {
            (None, None) => continue,
            (Some(prompt), Some(gate)) => (prompt, gate),
            (prompt, _) => {
                let missing = if prompt.is_some() { "gating_factor" } else { "adapter_wte.weight" };
                problems.push(format!("missing: transformer.h.{layer}.attn.{missing}"));
                continue;
            }
        };
        if found.is_empty() && prompt.shape.len() == 2 {
            (adapter_len, d_model) = (prompt.shape[0], prompt.shape[1]);
            heads = gate.values.len();
        }
        let fits = prompt.shape == [adapter_len, d_model]
            && adapter_len * d_model > 0
            && gate.squeezed().len() <= 1
            && gate.values.len() == heads
            && heads > 0;
        if !fits {
            problems.push(format!(
                "transformer.h.{layer}.attn: prompt {:?} and gates {:?}, expected [{adapter_len}, \
                 {d_model}] and one or {heads} gates",
                prompt.shape, gate.shape
            ));
            continue;
        }
        found.insert(layer, PromptLayer { prompt: prompt.values, gate: gate.values, factor: None });
    }
    let gate = if heads == 1 { Gate::Scalar } else { Gate::PerHead };
    let activation = Activation::Identity;
    (!found.is_empty()).then_some(PromptData {
        adapter_len,
        d_model,
        gate,
        activation,
        layers: found,
    })
}

fn v2(
    layers: BTreeMap<usize, BTreeMap<String, Array>>,
    rest: Arrays,
    sizes: Option<&Sizes>,
    problems: &mut Vec<String>,
) -> V2Data {
    let last = layers.keys().next_back().map_or(0, |last| last + 1);
    let n_layers = sizes.map_or(last, |sizes| sizes.n_layers);
    let mut data =
        V2Data { scale: Scale::Output, linears: BTreeMap::new(), norms: BTreeMap::new() };
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
fn split(values: &[f32], sizes: &Sizes, lit: Lit, interleaved: bool) -> Option<[Vec<f32>; 3]> {
    let Sizes { n_heads, n_kv_heads, head_dim, .. } = *sizes;
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
        Lit::Llama => reorder(rows, head_dim, |half, row| (row % half) * 2 + row / half),
        Lit::Gpt => rows.to_vec(),
    };
    Some([order(query), order(key), value.to_vec()])
}

/// The rows of each head in another order: row `i` comes from `from(half, i)`.
fn reorder(rows: &[f32], head_dim: usize, from: impl Fn(usize, usize) -> usize) -> Vec<f32> {
    let heads = rows.chunks_exact(head_dim);
    heads
        .flat_map(|head| (0..head_dim).map(|row| head[from(head_dim / 2, row)]).collect::<Vec<_>>())
        .collect()
}

/// Writes a file. Gates are one a head already; version 2 has both a scale and a bias everywhere.
pub(crate) fn write(
    path: &Path,
    data: &AdapterData,
    sizes: Option<&Sizes>,
    lit: Lit,
) -> Result<()> {
    let mut arrays = Arrays::new();
    if let Some(prompts) = &data.prompts {
        for (layer, own) in &prompts.layers {
            let name = |part: &str| format!("transformer.h.{layer}.attn.{part}");
            let table = Array::new([prompts.adapter_len, prompts.d_model], own.prompt.clone());
            arrays.insert(name("adapter_wte.weight"), table);
            let heads = own.gate.len();
            let shape = match lit {
                Lit::Llama => [1, heads, 1, 1],
                Lit::Gpt => [1, 1, heads, 1],
            };
            arrays.insert(name("gating_factor"), Array::new(shape, own.gate.clone()));
        }
    }
    if let (Some(v2), Some(sizes)) = (&data.v2, sizes) {
        write_v2(&mut arrays, v2, sizes, lit);
    }
    let wrapper = (lit == Lit::Gpt).then_some("model");
    torch::write(path, arrays, wrapper)
}

fn write_v2(arrays: &mut Arrays, v2: &V2Data, sizes: &Sizes, lit: Lit) {
    let whole = |layer: usize, name: LinearName| {
        let own = v2.linears.get(&(layer, name)).cloned().unwrap_or_default();
        let [d_out, _d_in] = sizes.linear_shape(name);
        let filled = |own: Option<Vec<f32>>, value: f32| own.unwrap_or_else(|| vec![value; d_out]);
        [("adapter_scale", filled(own.scale, 1.0)), ("adapter_bias", filled(own.bias, 0.0))]
    };
    let mut put = |name: String, values: Vec<f32>| {
        arrays.insert(name, Array::new([values.len()], values));
    };
    let pick = |llama, gpt| if lit == Lit::Llama { llama } else { gpt };
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
                Lit::Llama => reorder(&rows, sizes.head_dim, |half, row| row / 2 + row % 2 * half),
                Lit::Gpt => rows,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metas_order_of_rows_goes_there_and_back() {
        let meta = (0..8).map(|x| x as f32).collect::<Vec<_>>();
        let ours = reorder(&meta, 8, |half, row| (row % half) * 2 + row / half);
        assert_eq!(ours, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(reorder(&ours, 8, |half, row| row / 2 + row % 2 * half), meta);
    }
}
