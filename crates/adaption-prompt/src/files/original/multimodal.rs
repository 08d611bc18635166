//! The original release's `.pth` of multimodal adapters, versions 2 and 2.1.
//!
//! ```text
//! adapter_query.weight [K * L, C]      llama.layers.{i}.attention.gate [1, H, 1, 1], new_gate [1, 1, 1, 1]
//! clip_proj, clip_proj_norm, visual_query [K, W], visual_blocks.{n}, visual_proj, visual_proj_norm
//! llama.layers.{i}.{attention.{wq,wo}, feed_forward.{w1,w2,w3}}.bias, .attention_norm, .ffn_norm; llama.norm
//! llama.layers.{i}.{attention.lora_{wq,wk,wv,wo}, feed_forward.lora_{w1,w2,w3}}_{l1,l2}.weight
//! ```
//!
//! The first release has `llma.` in place of `llama.`. Its code projects prompts by the base's frozen
//! matrices, without the biases and LoRA.

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::torch::Value;
use llama::LinearName;
use llama::model::NormName;
use llama::weights::deinterleave_rotary;
use vision::{EncoderInfo, FeatureSpec, HiddenState, TokenSelection};

use super::{PROMPT_TABLE, gates, split_prompt_table};
use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::files::torch_file;
use crate::gate::{Gate, GateActivation};
use crate::parts::{
    ImageConfig, ImageData, ImageFusion, ImageProjectorConfig, LoraData, LoraPairData, PromptData,
    PromptProjection, TENSOR_PREFIX, V2Data, V2LinearData, V2NormData, V2Scale, is_lora_pair,
};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::parse_layer_index;

/// The tensor that identifies such a file.
const VISUAL_QUERY: &str = "visual_query.weight";

/// Whether a file of the original release is a multimodal adapter.
pub(super) fn is_multimodal_file(path: &Path) -> Result<bool> {
    Ok(torch_file::tensor_shapes(path)?.iter().any(|(name, _shape)| name == VISUAL_QUERY))
}

/// Attention heads of the image blocks, which the file does not contain.
const BLOCK_HEADS: usize = 16;

/// Trained linear layers of a layer, with a placeholder for the prefix of LoRA's tensors.
const LINEARS: [(&str, LinearName); 7] = [
    ("attention.{}wq", LinearName::Query),
    ("attention.{}wk", LinearName::Key),
    ("attention.{}wv", LinearName::Value),
    ("attention.{}wo", LinearName::Output),
    ("feed_forward.{}w1", LinearName::Gate),
    ("feed_forward.{}w2", LinearName::Down),
    ("feed_forward.{}w3", LinearName::Up),
];

/// The name of a tensor of the base model without its prefix.
fn strip_base_prefix(name: &str) -> Option<&str> {
    name.strip_prefix("llama.").or_else(|| name.strip_prefix("llma."))
}

/// Whether a tensor belongs to the adapter: a file may also contain CLIP or the base model.
fn is_adapter_tensor(name: &str) -> bool {
    const ADAPTER_PREFIXES: [&str; 4] = ["visual_", "clip_proj.", "clip_proj_norm.", PROMPT_TABLE];
    if ADAPTER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return true;
    }
    strip_base_prefix(name).is_some_and(|name| {
        ["gate", ".bias", "norm.weight"].iter().any(|end| name.ends_with(end))
            || name.contains(".lora_")
    })
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<AdapterData> {
    let mut tensors = torch_file::read(path, is_adapter_tensor)?;
    let mismatch = |problems: Vec<String>| Error::TensorMismatch { path: path.into(), problems };
    let mut take =
        |name: &str| tensors.remove(name).ok_or_else(|| mismatch(vec![format!("missing: {name}")]));
    let (table, query) = (take(PROMPT_TABLE)?, take(VISUAL_QUERY)?);
    let (&[rows, d_model], &[adapter_len, width]) = (&table.shape[..], &query.shape[..]) else {
        let shapes = format!("{:?} and {:?}", table.shape, query.shape);
        return Err(mismatch(vec![format!(
            "{PROMPT_TABLE} and {VISUAL_QUERY}: expected matrices, found {shapes}"
        )]));
    };
    let mut base: BTreeMap<usize, BTreeMap<String, HostTensor>> = BTreeMap::new();
    let mut visual = HostTensors::from([(VISUAL_QUERY.to_owned(), query)]);
    let mut final_norm = None;
    for (name, tensor) in tensors {
        let Some(rest) = strip_base_prefix(&name) else {
            visual.insert(name, tensor);
            continue;
        };
        let layer = rest.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
        match layer.and_then(|(layer, part)| Some((parse_layer_index(layer)?, part))) {
            Some((layer, part)) => {
                base.entry(layer).or_default().insert(part.to_owned(), tensor);
            }
            None if rest == "norm.weight" => final_norm = Some(tensor),
            None => return Err(mismatch(vec![format!("unexpected: {name}")])),
        }
    }
    let mut gate_tensors = HostTensors::new();
    let mut factors = BTreeMap::new();
    for (layer, parts) in &mut base {
        if let Some(gate) = parts.remove("attention.gate") {
            gate_tensors.insert(format!("layers.{layer}.attention.gate"), gate);
        }
        if let Some(factor) = parts.remove("attention.new_gate") {
            let &[number] = &factor.values[..] else {
                let shape = &factor.shape;
                let problem = format!("new_gate of layer {layer}: expected one, found {shape:?}");
                return Err(mismatch(vec![problem]));
            };
            factors.insert(*layer, number);
        }
    }
    let gates = gates(gate_tensors).map_err(|problem| mismatch(vec![problem]))?;
    let (n_layers, n_heads) = (gates.len(), gates[0].len());
    let count = rows.checked_div(adapter_len).filter(|_| rows.is_multiple_of(adapter_len));
    let count = count.filter(|count| (1..=n_layers).contains(count));
    // Rotary embedding pairs the two halves of a head.
    let heads_fit = d_model > 0 && d_model.is_multiple_of(2 * n_heads);
    let Some(count) = count.filter(|_| heads_fit) else {
        let shape = &table.shape;
        return Err(mismatch(vec![format!(
            "{PROMPT_TABLE}: {shape:?} is not prompts of {adapter_len} tokens for up to {n_layers} layers of \
             {n_heads} heads"
        )]));
    };
    let mut layers = split_prompt_table(&table, count, &gates);
    for (layer, own) in &mut layers {
        own.factor = factors.get(layer).copied();
    }
    let prompts = PromptData {
        adapter_len,
        d_model,
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        projection: PromptProjection::Frozen,
        layers,
    };
    let has_factors = !factors.is_empty();
    let mut problems = Vec::new();
    let layer_tensors = LayerTensors { n_layers, head_dim: d_model / n_heads, final_norm };
    let (v2, lora) = layer_tensors.read(base, &mut problems);
    let image = image_data(visual, adapter_len, width, &mut problems);
    problems.extend(setting_conflicts(path, v2.as_ref(), lora.as_ref(), has_factors)?);
    if !problems.is_empty() {
        return Err(mismatch(problems));
    }
    Ok(AdapterData { prompts: Some(prompts), v2, lora, image, ..AdapterData::default() })
}

/// Known settings in a file's dictionary `config`. The original program builds its model from them and
/// refuses tensors that this model does not have.
///
/// Source: the original multi-modal release, `llama/llama_adapter.py`, `load`.
const SETTINGS: [&str; 3] = ["lora_rank", "w_bias", "w_lora"];

/// Unknown settings of a file.
pub(in crate::files) fn unknown_settings(path: &Path) -> Result<Vec<String>> {
    let names = torch_file::read_config(path)?.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| !SETTINGS.contains(&name.as_str())).collect())
}

/// Conflicts of a file's settings with its tensors.
fn setting_conflicts(
    path: &Path,
    v2: Option<&V2Data>,
    lora: Option<&LoraData>,
    has_factors: bool,
) -> Result<Vec<String>> {
    let config = torch_file::read_config(path)?;
    let get = |name: &str| config.iter().find(|(own, _)| own == name).map(|(_, value)| value);
    let is_false = |name: &str| get(name).and_then(Value::as_bool) == Some(false);
    let mut problems = Vec::new();
    if is_false("w_bias") && v2.is_some_and(|v2| !v2.linears.is_empty()) {
        problems.push("unexpected: biases, since the setting `w_bias` is false".into());
    }
    if is_false("w_lora") && (lora.is_some() || has_factors) {
        problems.push("unexpected: LoRA or `new_gate`, since the setting `w_lora` is false".into());
    }
    if let (Some(lora), Some(rank)) = (lora, get("lora_rank").and_then(Value::as_int))
        && i64::try_from(lora.rank).ok() != Some(rank)
    {
        problems.push(format!("LoRA of rank {}, but the setting `lora_rank` is {rank}", lora.rank));
    }
    Ok(problems)
}

/// Trained tensors of the model's layers other than prompts.
struct LayerTensors {
    n_layers: usize,
    head_dim: usize,
    final_norm: Option<HostTensor>,
}

impl LayerTensors {
    fn read(
        self,
        layers: BTreeMap<usize, BTreeMap<String, HostTensor>>,
        problems: &mut Vec<String>,
    ) -> (Option<V2Data>, Option<LoraData>) {
        let mut v2 = V2Data::new(V2Scale::None);
        let mut lora = LoraData { rank: 0, alpha: 0.0, pairs: BTreeMap::new() };
        for (layer, mut parts) in layers {
            for (module, name) in LINEARS {
                let is_rotated = matches!(name, LinearName::Query | LinearName::Key);
                let deinterleaved = |values: Vec<f32>, width: usize| {
                    // Partial heads are refused when the shapes are compared with the model's.
                    let rows =
                        is_rotated.then(|| deinterleave_rotary(&values, width, self.head_dim));
                    rows.flatten().unwrap_or(values)
                };
                if let Some(bias) = parts.remove(&format!("{}.bias", module.replace("{}", ""))) {
                    let bias = Some(deinterleaved(bias.values, 1));
                    v2.linears.insert((layer, name), V2LinearData { scale: None, bias });
                }
                let lora_name =
                    |end: &str| format!("{}_{end}.weight", module.replace("{}", "lora_"));
                let pair = (parts.remove(&lora_name("l1")), parts.remove(&lora_name("l2")));
                let (a, b) = match pair {
                    (Some(a), Some(b)) => (a, b),
                    (None, None) => continue,
                    _ => {
                        problems
                            .push(format!("one of layer {layer}'s {} is missing", lora_name("l?")));
                        continue;
                    }
                };
                let rank = a.shape.first().copied().unwrap_or(0);
                if rank == 0 || !is_lora_pair(&a, &b, rank) || ![0, rank].contains(&lora.rank) {
                    let shapes = format!("{:?} and {:?}", a.shape, b.shape);
                    problems.push(format!("layer {layer}, {}: ranks of {shapes}", lora_name("l?")));
                    continue;
                }
                lora.rank = rank;
                let own = LoraPairData { rank, a: a.values, b: deinterleaved(b.values, rank) };
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
        // A scaling of 1.
        lora.alpha = lora.rank as f64;
        let v2 = (!v2.linears.is_empty() || !v2.norms.is_empty()).then_some(v2);
        (v2, (!lora.pairs.is_empty()).then_some(lora))
    }
}

/// The image condition, with separate query, key and value of its blocks.
fn image_data(
    visual: HostTensors,
    count: usize,
    width: usize,
    problems: &mut Vec<String>,
) -> Option<ImageData> {
    const FUSED_QKV: &str = ".attn.qkv.";
    let mut tensors = BTreeMap::new();
    for (name, tensor) in visual {
        let Some((block, kind)) = name.split_once(FUSED_QKV) else {
            tensors.insert(format!("{TENSOR_PREFIX}.{name}"), (tensor.shape, tensor.values));
            continue;
        };
        let mut shape = tensor.shape;
        let Some(rows) = shape.first_mut().filter(|rows| **rows > 0 && rows.is_multiple_of(3))
        else {
            problems
                .push(format!("{name}: expected rows of query, key and value, found {shape:?}"));
            continue;
        };
        *rows /= 3;
        let len = tensor.values.len() / 3;
        for (index, which) in ["query", "key", "value"].into_iter().enumerate() {
            let part = tensor.values[index * len..(index + 1) * len].to_vec();
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
    // The original release does not standardize the features.
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
