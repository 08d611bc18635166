//! lit-llama's and litgpt's adapters, versions 1 and 2.
//!
//! ```text
//! transformer.h.{i}.attn.adapter_wte.weight    [K, C]
//! transformer.h.{i}.attn.gating_factor         [1, H, 1, 1]; litgpt: [1, 1, H, 1]
//! ...adapter_scale, ...adapter_bias            version 2, on every linear layer
//! ...rms_1.scale; litgpt: ...norm_1.weight     version 2, every norm
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use llama::config::ModelShape;

use super::keys::parse_layer_index;
use super::lit_v2::{is_global_tensor, is_norm, read_v2, write_v2};
use super::tensors::{Array, Arrays};
use super::torch;
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{AdapterData, PromptData, PromptLayerData};
use crate::error::{Error, Result};

/// Whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LitFormat {
    Llama,
    Gpt,
}

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

/// What version 2 is read for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// To be used: the model's sizes tell query, key and value apart.
    Use(Option<&'a ModelShape>),
    /// To be shown: it does not matter which number is of which of the three.
    Summarize,
}

/// Reads a file.
pub(crate) fn read(path: &Path, purpose: Purpose<'_>) -> Result<AdapterData> {
    let mut arrays = torch::read(path, |name| knows(name) || is_norm(name))?;
    let tuned = arrays.keys().any(|name| is_tuned(name));
    if !tuned {
        arrays.retain(|name, _| knows(name));
    }
    let wrong = |problems| Error::TensorMismatch { path: path.into(), problems };
    let mut problems = Vec::new();
    let mut layers: BTreeMap<usize, BTreeMap<String, Array>> = BTreeMap::new();
    let mut rest = Arrays::new();
    for (name, array) in arrays {
        let split = name.strip_prefix("transformer.h.").and_then(|name| name.split_once('.'));
        match split.and_then(|(layer, part)| Some((parse_layer_index(layer)?, part))) {
            Some((layer, part)) => {
                layers.entry(layer).or_default().insert(part.to_owned(), array);
            }
            None if is_global_tensor(&name) => {
                rest.insert(name, array);
            }
            None => problems.push(format!("unexpected: {name}")),
        }
    }
    let prompts = prompts(&mut layers, &mut problems);
    let v2 = match (tuned, purpose) {
        (false, _) => None,
        (true, Purpose::Use(None)) => {
            let (to, what) = ("reading Adapter V2", "the model's heads");
            return Err(Error::MissingBaseInfo { to, what });
        }
        (true, Purpose::Use(sizes)) => Some(read_v2(layers, rest, sizes, &mut problems)),
        (true, Purpose::Summarize) => Some(read_v2(layers, rest, None, &mut problems)),
    };
    if prompts.is_none() && v2.is_none() {
        problems.push("no prompts".into());
    }
    if !problems.is_empty() {
        return Err(wrong(problems));
    }
    Ok(AdapterData { prompts, v2, ..AdapterData::default() })
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
        found.insert(
            layer,
            PromptLayerData { prompt: prompt.values, gate: gate.values, factor: None },
        );
    }
    let gate = if heads == 1 { Gate::Scalar } else { Gate::PerHead };
    let activation = GateActivation::Identity;
    (!found.is_empty()).then_some(PromptData {
        adapter_len,
        d_model,
        gate,
        activation,
        projection: PromptProjection::Adapted,
        layers: found,
    })
}

/// Writes a file. Gates are one a head already; version 2 has both a scale and a bias everywhere.
pub(crate) fn write(
    path: &Path,
    data: &AdapterData,
    sizes: Option<&ModelShape>,
    lit: LitFormat,
) -> Result<()> {
    let mut arrays = Arrays::new();
    if let Some(prompts) = &data.prompts {
        for (layer, own) in &prompts.layers {
            let name = |part: &str| format!("transformer.h.{layer}.attn.{part}");
            let table = Array::new([prompts.adapter_len, prompts.d_model], own.prompt.clone());
            arrays.insert(name("adapter_wte.weight"), table);
            let heads = own.gate.len();
            let shape = match lit {
                LitFormat::Llama => [1, heads, 1, 1],
                LitFormat::Gpt => [1, 1, heads, 1],
            };
            arrays.insert(name("gating_factor"), Array::new(shape, own.gate.clone()));
        }
    }
    if let (Some(v2), Some(sizes)) = (&data.v2, sizes) {
        write_v2(&mut arrays, v2, sizes, lit);
    }
    let wrapper = (lit == LitFormat::Gpt).then_some("model");
    torch::write(path, arrays, wrapper)
}
