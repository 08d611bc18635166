//! The original release's `.pth` of adapters that see images, versions 2 and 2.1.
//!
//! ```text
//! adapter_query.weight [K * L, C]      llama.layers.{i}.attention.gate [1, H, 1, 1], new_gate [1, 1, 1, 1]
//! clip_proj, clip_proj_norm, visual_query [K, W], visual_blocks.{n}, visual_proj, visual_proj_norm
//! llama.layers.{i}.{attention.{wq,wo}, feed_forward.{w1,w2,w3}}.bias, .attention_norm, .ffn_norm; llama.norm
//! llama.layers.{i}.{attention.lora_{wq,wk,wv,wo}, feed_forward.lora_{w1,w2,w3}}_{l1,l2}.weight
//! ```
//!
//! The first release spelled `llama.` as `llma.`. Its code projects prompts by the base's own
//! matrices, whatever biases and LoRA are beside them.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::torch::Value;
use llama::LinearName;
use llama::model::NormName;
use llama::weights::deinterleave_rotary;
use vision::{EncoderInfo, FeatureSpec, HiddenState, TokenSelection};

use super::keys::parse_layer_index;
use super::original::{PROMPT_TABLE, gates};
use super::tensors::{Array, Arrays, is_lora_pair};
use super::torch;
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{
    AdapterData, ImageData, LoraData, LoraPairData, PromptData, PromptLayerData, V2Data,
    V2LinearData, V2NormData,
};
use crate::error::{Error, Result};
use crate::image::{ImageConfig, ImageFusion, ImageProjectorConfig, TENSOR_PREFIX};
use crate::v2::V2Scale;

/// The tensor by which such a file is known.
const QUERY: &str = "visual_query.weight";

/// Whether a file of the original release is of an adapter that sees images.
pub(crate) fn is_multimodal_file(path: &Path) -> Result<bool> {
    Ok(torch::names(path)?.iter().any(|(name, _shape)| name == QUERY))
}

/// Heads of its image blocks, which the file does not say.
const BLOCK_HEADS: usize = 16;

/// What the parts of a layer that learn are called.
const LINEARS: [(&str, LinearName); 7] = [
    ("attention.{}wq", LinearName::Query),
    ("attention.{}wk", LinearName::Key),
    ("attention.{}wv", LinearName::Value),
    ("attention.{}wo", LinearName::Output),
    ("feed_forward.{}w1", LinearName::Gate),
    ("feed_forward.{}w2", LinearName::Down),
    ("feed_forward.{}w3", LinearName::Up),
];

/// A tensor's name without the base's in front, if it is of the base.
fn of_base(name: &str) -> Option<&str> {
    name.strip_prefix("llama.").or_else(|| name.strip_prefix("llma."))
}

/// Whether a tensor is the adapter's: a file may hold CLIP or the base beside it.
fn knows(name: &str) -> bool {
    const OWN: [&str; 4] = ["visual_", "clip_proj.", "clip_proj_norm.", PROMPT_TABLE];
    if OWN.iter().any(|own| name.starts_with(own)) {
        return true;
    }
    of_base(name).is_some_and(|name| {
        ["gate", ".bias", "norm.weight"].iter().any(|end| name.ends_with(end))
            || name.contains(".lora_")
    })
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<AdapterData> {
    let mut arrays = torch::read(path, knows)?;
    let wrong = |problems: Vec<String>| Error::TensorMismatch { path: path.into(), problems };
    let mut take =
        |name: &str| arrays.remove(name).ok_or_else(|| wrong(vec![format!("missing: {name}")]));
    let (table, query) = (take(PROMPT_TABLE)?, take(QUERY)?);
    let (&[rows, d_model], &[adapter_len, width]) = (&table.shape[..], &query.shape[..]) else {
        let shapes = format!("{:?} and {:?}", table.shape, query.shape);
        return Err(wrong(vec![format!(
            "{PROMPT_TABLE} and {QUERY}: expected matrices, found {shapes}"
        )]));
    };
    let mut base: BTreeMap<usize, BTreeMap<String, Array>> = BTreeMap::new();
    let mut visual = Arrays::from([(QUERY.to_owned(), query)]);
    let mut final_norm = None;
    for (name, array) in arrays {
        let Some(rest) = of_base(&name) else {
            visual.insert(name, array);
            continue;
        };
        let layer = rest.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        match layer.and_then(|(layer, part)| Some((parse_layer_index(layer)?, part))) {
            Some((layer, part)) => {
                base.entry(layer).or_default().insert(part.to_owned(), array);
            }
            None if rest == "norm.weight" => final_norm = Some(array),
            None => return Err(wrong(vec![format!("unexpected: {name}")])),
        }
    }
    let mut of_gates = Arrays::new();
    let mut factors = BTreeMap::new();
    for (layer, parts) in &mut base {
        if let Some(gate) = parts.remove("attention.gate") {
            of_gates.insert(format!("layers.{layer}.attention.gate"), gate);
        }
        if let Some(factor) = parts.remove("attention.new_gate") {
            let &[number] = &factor.values[..] else {
                let shape = &factor.shape;
                let problem = format!("new_gate of layer {layer}: expected one, found {shape:?}");
                return Err(wrong(vec![problem]));
            };
            factors.insert(*layer, number);
        }
    }
    let gates = gates(of_gates).map_err(|problem| wrong(vec![problem]))?;
    let (n_layers, n_heads) = (gates.len(), gates[0].len());
    let count = rows.checked_div(adapter_len).filter(|_| rows.is_multiple_of(adapter_len));
    let count = count.filter(|count| (1..=n_layers).contains(count));
    // The halves of a head are rotated together.
    let heads_fit = d_model > 0 && d_model.is_multiple_of(2 * n_heads);
    let Some(count) = count.filter(|_| heads_fit) else {
        let shape = &table.shape;
        return Err(wrong(vec![format!(
            "{PROMPT_TABLE}: {shape:?} is not prompts of {adapter_len} tokens for up to {n_layers} layers of \
             {n_heads} heads"
        )]));
    };
    let prompts = table.values.chunks_exact(adapter_len * d_model);
    let layers = (n_layers - count..n_layers).zip(prompts).map(|(layer, prompt)| {
        let factor = factors.get(&layer).copied();
        (layer, PromptLayerData { prompt: prompt.to_vec(), gate: gates[layer].clone(), factor })
    });
    let prompts = PromptData {
        adapter_len,
        d_model,
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        projection: PromptProjection::Frozen,
        layers: layers.collect(),
    };
    let has_factors = !factors.is_empty();
    let mut problems = Vec::new();
    let tuned = Tuned { n_layers, head_dim: d_model / n_heads, final_norm };
    let (v2, lora) = tuned.read(base, &mut problems);
    let image = image(visual, adapter_len, width, &mut problems);
    problems.extend(disagreements(path, v2.as_ref(), lora.as_ref(), has_factors)?);
    if !problems.is_empty() {
        return Err(wrong(problems));
    }
    Ok(AdapterData { prompts: Some(prompts), v2, lora, image, ..AdapterData::default() })
}

/// Settings that such a file has under `config`. Its program makes a model of them, and refuses tensors
/// that this model has not.
///
/// Source: the original multi-modal release, `llama/llama_adapter.py`, `load`.
const SETTINGS: [&str; 3] = ["lora_rank", "w_bias", "w_lora"];

/// Settings of a file that nobody here knows.
pub(crate) fn unknown(path: &Path) -> Result<Vec<String>> {
    let names = torch::config(path)?.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| !SETTINGS.contains(&name.as_str())).collect())
}

/// Where a file's settings and its tensors disagree.
fn disagreements(
    path: &Path,
    v2: Option<&V2Data>,
    lora: Option<&LoraData>,
    has_factors: bool,
) -> Result<Vec<String>> {
    let config = torch::config(path)?;
    let get = |name: &str| config.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    let off = |name: &str| get(name).and_then(Value::as_bool) == Some(false);
    let mut problems = Vec::new();
    if off("w_bias") && v2.is_some_and(|v2| !v2.linears.is_empty()) {
        problems.push("unexpected: biases, where its setting `w_bias` is false".into());
    }
    if off("w_lora") && (lora.is_some() || has_factors) {
        problems.push("unexpected: LoRA or `new_gate`, where its setting `w_lora` is false".into());
    }
    if let (Some(lora), Some(rank)) = (lora, get("lora_rank").and_then(Value::as_int))
        && i64::try_from(lora.rank).ok() != Some(rank)
    {
        problems
            .push(format!("LoRA of rank {}, where its setting `lora_rank` is {rank}", lora.rank));
    }
    Ok(problems)
}

/// What is beside the prompts in the model's layers.
struct Tuned {
    n_layers: usize,
    head_dim: usize,
    final_norm: Option<Array>,
}

impl Tuned {
    fn read(
        self,
        layers: BTreeMap<usize, BTreeMap<String, Array>>,
        problems: &mut Vec<String>,
    ) -> (Option<V2Data>, Option<LoraData>) {
        let mut v2 =
            V2Data { scale: V2Scale::None, linears: BTreeMap::new(), norms: BTreeMap::new() };
        let mut lora = LoraData { rank: 0, alpha: 0.0, pairs: BTreeMap::new() };
        for (layer, mut parts) in layers {
            for (place, name) in LINEARS {
                let turned = matches!(name, LinearName::Query | LinearName::Key);
                let ordered = |values: Vec<f32>, width: usize| {
                    // Rows that are no whole heads are refused where they meet the model.
                    let halves = turned.then(|| deinterleave_rotary(&values, width, self.head_dim));
                    halves.flatten().unwrap_or(values)
                };
                if let Some(bias) = parts.remove(&format!("{}.bias", place.replace("{}", ""))) {
                    let bias = Some(ordered(bias.values, 1));
                    v2.linears.insert((layer, name), V2LinearData { scale: None, bias });
                }
                let part = |end: &str| format!("{}_{end}.weight", place.replace("{}", "lora_"));
                let pair = (parts.remove(&part("l1")), parts.remove(&part("l2")));
                let (a, b) = match pair {
                    (Some(a), Some(b)) => (a, b),
                    (None, None) => continue,
                    _ => {
                        problems.push(format!("one of layer {layer}'s {} is missing", part("l?")));
                        continue;
                    }
                };
                let rank = a.shape.first().copied().unwrap_or(0);
                if rank == 0 || !is_lora_pair(&a, &b, rank) || ![0, rank].contains(&lora.rank) {
                    let shapes = format!("{:?} and {:?}", a.shape, b.shape);
                    problems.push(format!("layer {layer}, {}: ranks of {shapes}", part("l?")));
                    continue;
                }
                lora.rank = rank;
                let own = LoraPairData { rank, a: a.values, b: ordered(b.values, rank) };
                lora.pairs.insert((layer, name), own);
            }
            let norms = [
                ("attention_norm.weight", NormName::Attention),
                ("ffn_norm.weight", NormName::FeedForward),
            ];
            for (part, name) in norms {
                if let Some(norm) = parts.remove(part) {
                    let norm = V2NormData { weight: norm.values, bias: None };
                    v2.norms.insert((layer, name), norm);
                }
            }
            let rest = parts.into_keys().map(|part| format!("unexpected: layers.{layer}.{part}"));
            problems.extend(rest);
        }
        if let Some(norm) = self.final_norm {
            let norm = V2NormData { weight: norm.values, bias: None };
            v2.norms.insert((self.n_layers, NormName::Final), norm);
        }
        // Its products are added as they are.
        lora.alpha = lora.rank as f64;
        let v2 = (!v2.linears.is_empty() || !v2.norms.is_empty()).then_some(v2);
        (v2, (!lora.pairs.is_empty()).then_some(lora))
    }
}

/// The image condition, query, key and value of its blocks apart.
fn image(
    arrays: Arrays,
    count: usize,
    width: usize,
    problems: &mut Vec<String>,
) -> Option<ImageData> {
    const STACKED: &str = ".attn.qkv.";
    let mut tensors = BTreeMap::new();
    for (name, array) in arrays {
        let Some((block, kind)) = name.split_once(STACKED) else {
            tensors.insert(format!("{TENSOR_PREFIX}.{name}"), (array.shape, array.values));
            continue;
        };
        let mut shape = array.shape;
        let Some(rows) = shape.first_mut().filter(|rows| **rows > 0 && rows.is_multiple_of(3))
        else {
            problems
                .push(format!("{name}: expected rows of query, key and value, found {shape:?}"));
            continue;
        };
        *rows /= 3;
        let len = array.values.len() / 3;
        for (index, which) in ["query", "key", "value"].into_iter().enumerate() {
            let part = array.values[index * len..(index + 1) * len].to_vec();
            tensors.insert(
                format!("{TENSOR_PREFIX}.{block}.attn.{which}.{kind}"),
                (shape.clone(), part),
            );
        }
    }
    let blocks = tensors.keys().filter(|name| name.ends_with(".norm1.weight")).count();
    let features = tensors.get(&format!("{TENSOR_PREFIX}.clip_proj.weight"));
    let features = match features.map(|(shape, values)| (&shape[..], values.is_empty())) {
        Some((&[_width, features], false)) => features,
        Some((shape, _)) => {
            problems.push(format!("clip_proj.weight: expected a matrix, found {shape:?}"));
            return None;
        }
        None => {
            problems.push("missing: clip_proj.weight".into());
            return None;
        }
    };
    // It takes features as they are.
    tensors.insert(format!("{TENSOR_PREFIX}.mean"), (vec![features], vec![0.0; features]));
    tensors.insert(format!("{TENSOR_PREFIX}.scale"), (vec![features], vec![1.0; features]));
    tensors.insert(format!("{TENSOR_PREFIX}.gate"), (vec![1], vec![1.0]));
    let config = ImageConfig {
        features,
        form: ImageProjectorConfig::Queries { count, width, blocks, heads: BLOCK_HEADS },
        fusion: ImageFusion::Prompts { gate: 1.0 },
        encoder: Some(EncoderInfo {
            name: "CLIP ViT-L/14".into(),
            spec: FeatureSpec {
                image_size: 224,
                states: vec![HiddenState::Projected],
                tokens: TokenSelection::All,
            },
            fingerprint: Vec::new(),
        }),
    };
    Some(ImageData { config, tensors })
}
