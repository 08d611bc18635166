//! Adapters of lit-llama and litgpt, versions 1 and 2.
//!
//! ```text
//! transformer.h.{i}.attn.adapter_wte.weight    [K, C]
//! transformer.h.{i}.attn.gating_factor         [1, H, 1, 1]; litgpt: [1, 1, H, 1]
//! ...adapter_scale, ...adapter_bias            version 2, every linear layer
//! ...rms_1.scale; litgpt: ...norm_1.weight     version 2, every norm
//! ```

mod convert;
mod names;
mod v2;

use std::collections::BTreeMap;
use std::path::Path;

pub(super) use self::convert::convert;
use self::names::{GATE, LAYERS, PROMPT, is_global_tensor, is_norm, is_v2_tensor};
pub(super) use self::names::{LitFormat, is_adapter_tensor, is_litgpt_tensor};
use self::v2::{read_v2, write_v2};
use super::read_purpose::ReadPurpose;
use super::torch_file;
use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::parts::{PromptData, PromptLayerData, PromptProjection};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::parse_layer_index;

/// Reads a file.
pub(super) fn read(path: &Path, purpose: ReadPurpose<'_>) -> Result<AdapterData> {
    let mut tensors = torch_file::read(path, |name| is_adapter_tensor(name) || is_norm(name))?;
    let has_v2 = tensors.keys().any(|name| is_v2_tensor(name));
    if !has_v2 {
        tensors.retain(|name, _| is_adapter_tensor(name));
    }
    let mut problems = Vec::new();
    let mut layers: BTreeMap<usize, BTreeMap<String, HostTensor>> = BTreeMap::new();
    let mut global_tensors = HostTensors::new();
    for (name, tensor) in tensors {
        let split = name.strip_prefix(LAYERS).and_then(|name| name.split_once('.'));
        match split.and_then(|(layer, part)| Some((parse_layer_index(layer)?, part))) {
            Some((layer, part)) => {
                layers.entry(layer).or_default().insert(part.to_owned(), tensor);
            }
            None if is_global_tensor(&name) => {
                global_tensors.insert(name, tensor);
            }
            None => problems.push(format!("unexpected: {name}")),
        }
    }
    let prompts = read_prompts(&mut layers, &mut problems);
    let v2 = match (has_v2, purpose) {
        (false, _) => None,
        (true, ReadPurpose::Load(None)) => {
            let (to, required) = ("reading Adapter V2", "the model's heads");
            return Err(Error::MissingBaseInfo { to, required });
        }
        (true, _) => Some(read_v2(layers, global_tensors, purpose.shapes(), &mut problems)),
    };
    if prompts.is_none() && v2.is_none() {
        problems.push("no prompts".into());
    }
    if !problems.is_empty() {
        return Err(Error::TensorMismatch { path: path.into(), problems });
    }
    Ok(AdapterData { prompts, v2, ..AdapterData::default() })
}

/// Takes the prompts and gates out of the layers' tensors.
fn read_prompts(
    layers: &mut BTreeMap<usize, BTreeMap<String, HostTensor>>,
    problems: &mut Vec<String>,
) -> Option<PromptData> {
    let mut found = BTreeMap::new();
    let (mut adapter_len, mut d_model, mut heads) = (0, 0, 0);
    for (&layer, tensors) in layers {
        let (prompt, gate) = match (tensors.remove(PROMPT), tensors.remove(GATE)) {
            (None, None) => continue,
            (Some(prompt), Some(gate)) => (prompt, gate),
            (prompt, _) => {
                let missing = if prompt.is_some() { GATE } else { PROMPT };
                problems.push(format!("missing: {LAYERS}{layer}.{missing}"));
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
                "{LAYERS}{layer}.attn: prompt {:?} and gates {:?}, expected [{adapter_len}, \
                 {d_model}] and one or {heads} gates",
                prompt.shape, gate.shape
            ));
            continue;
        }
        let (prompt, gate) = (prompt.values, gate.values);
        found.insert(layer, PromptLayerData { prompt, gate, factor: None });
    }
    (!found.is_empty()).then_some(PromptData {
        adapter_len,
        d_model,
        gate: if heads == 1 { Gate::Scalar } else { Gate::PerHead },
        activation: GateActivation::Identity,
        projection: PromptProjection::Adapted,
        layers: found,
    })
}

/// Writes an adapter that was converted for this format.
pub(super) fn write(path: &Path, data: &AdapterData, format: LitFormat) -> Result<()> {
    let mut tensors = HostTensors::new();
    if let Some(prompts) = &data.prompts {
        for (layer, own) in &prompts.layers {
            let prompt =
                HostTensor::new([prompts.adapter_len, prompts.d_model], own.prompt.clone());
            tensors.insert(format!("{LAYERS}{layer}.{PROMPT}"), prompt);
            let heads = own.gate.len();
            let shape = format.select([1, heads, 1, 1], [1, 1, heads, 1]);
            let gate = HostTensor::new(shape, own.gate.clone());
            tensors.insert(format!("{LAYERS}{layer}.{GATE}"), gate);
        }
    }
    if let (Some(v2), Some(sizes)) = (&data.v2, &data.base.sizes) {
        write_v2(&mut tensors, v2, sizes, format);
    }
    let wrapper = (format == LitFormat::Gpt).then_some("model");
    torch_file::write(path, tensors, wrapper)
}
