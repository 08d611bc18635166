//! The original release's `.pth`: one table of prompts, and gates for every layer of the model.
//!
//! ```text
//! adapter_query.weight        [K * L, C]      rows l*K .. (l+1)*K belong to layer N - L + l
//! layers.{i}.attention.gate   [1, H, 1, 1]    all N layers; those below the last L are unused
//! ```
//!
//! Its training code applies tanh to the gates, the inference code of version 1 does not. The file does not
//! say which is right: tanh, unless the caller says otherwise.

mod convert;
mod multimodal;

use std::collections::BTreeMap;
use std::path::Path;

pub(super) use self::convert::convert;
pub(super) use self::multimodal::unknown_settings;
use super::torch_file;
use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::parts::{PromptData, PromptLayerData, PromptProjection};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::parse_layer_index;

/// The tensor of all prompts.
pub(super) const PROMPT_TABLE: &str = "adapter_query.weight";

/// Prompt length of the released adapters.
const RELEASED_PROMPT_LEN: usize = 10;

/// The layer of a gate's name.
fn parse_gate_layer(name: &str) -> Option<usize> {
    parse_layer_index(name.strip_prefix("layers.")?.strip_suffix(".attention.gate")?)
}

/// Whether a tensor belongs to an adapter without images.
fn is_adapter_tensor(name: &str) -> bool {
    name == PROMPT_TABLE || parse_gate_layer(name).is_some()
}

/// Number of adapted layers, which the file does not contain. It is counted from the lowest layer with a
/// nonzero gate, plus as few layers as make it a divisor of the table's rows. If all gates are 0, the
/// prompt length is that of the released adapters.
fn infer_n_adapted_layers(
    first_nonzero: Option<usize>,
    n_layers: usize,
    rows: usize,
) -> Option<usize> {
    let count = match first_nonzero {
        Some(first) => (n_layers - first..=n_layers).find(|&count| rows.is_multiple_of(count)),
        None => Some((rows / RELEASED_PROMPT_LEN).min(n_layers)),
    };
    count.filter(|&count| count > 0 && rows > 0 && rows.is_multiple_of(count))
}

/// Whether the number of adapted layers can be inferred from a file of these prompts, which are in the
/// model's last layers.
fn n_layers_is_recoverable(prompts: &PromptData, n_layers: usize) -> bool {
    let has_nonzero_gate = |own: &PromptLayerData| own.gate.iter().any(|&gate| gate != 0.0);
    let first = prompts.layers.iter().find(|(_, own)| has_nonzero_gate(own));
    let first = first.map(|(layer, _)| *layer);
    let count = prompts.layers.len();
    infer_n_adapted_layers(first, n_layers, count * prompts.adapter_len) == Some(count)
}

/// Reads a file, with or without images. `activation` is that of the gates in a file without images.
pub(super) fn read(path: &Path, activation: GateActivation) -> Result<AdapterData> {
    if multimodal::is_multimodal_file(path)? {
        return multimodal::read(path);
    }
    let mut tensors = torch_file::read(path, is_adapter_tensor)?;
    let mismatch =
        |problem: String| Error::TensorMismatch { path: path.into(), problems: vec![problem] };
    let table =
        tensors.remove(PROMPT_TABLE).ok_or_else(|| mismatch(format!("missing: {PROMPT_TABLE}")))?;
    let &[rows, d_model] = &table.shape[..] else {
        let found = &table.shape;
        return Err(mismatch(format!("{PROMPT_TABLE}: expected [K * L, C], found {found:?}")));
    };
    let gates = gates(tensors).map_err(mismatch)?;
    let n_layers = gates.len();
    let first = gates.iter().position(|gate| gate.iter().any(|&number| number != 0.0));
    let count = infer_n_adapted_layers(first, n_layers, rows).filter(|_| d_model > 0);
    let count = count.ok_or_else(|| {
        let first = first.map_or(String::new(), |first| format!(" from layer {first} up"));
        mismatch(format!(
            "{PROMPT_TABLE}: {:?} cannot be divided evenly among the model's {n_layers} layers{first}",
            table.shape
        ))
    })?;
    let gate = if gates[0].len() == 1 { Gate::Scalar } else { Gate::PerHead };
    let prompts = PromptData {
        adapter_len: rows / count,
        d_model,
        gate,
        activation,
        projection: PromptProjection::default(),
        layers: split_prompt_table(&table, count, &gates),
    };
    Ok(AdapterData { prompts: Some(prompts), ..AdapterData::default() })
}

/// The prompts of the last `count` layers, with their gates. `table` is a matrix whose rows are a multiple
/// of `count`.
fn split_prompt_table(
    table: &HostTensor,
    count: usize,
    gates: &[Vec<f32>],
) -> BTreeMap<usize, PromptLayerData> {
    let prompts = table.values.chunks_exact(table.values.len() / count);
    let layers = (gates.len() - count..).zip(prompts).map(|(layer, prompt)| {
        let (prompt, gate) = (prompt.to_vec(), gates[layer].clone());
        (layer, PromptLayerData { prompt, gate, factor: None })
    });
    layers.collect()
}

/// Gates of all layers, from the first to the last; at least one layer.
fn gates(tensors: HostTensors) -> Result<Vec<Vec<f32>>, String> {
    let mut gates = BTreeMap::new();
    for (name, tensor) in tensors {
        let layer = parse_gate_layer(&name).ok_or_else(|| format!("unexpected: {name}"))?;
        if tensor.squeezed().len() > 1 || tensor.values.is_empty() {
            let found = &tensor.shape;
            return Err(format!("{name}: expected one gate or one per head, found {found:?}"));
        }
        gates.insert(layer, tensor.values);
    }
    let heads = gates.values().next().map_or(0, Vec::len);
    for (expected_layer, (layer, gate)) in gates.iter().enumerate() {
        if *layer != expected_layer {
            return Err(format!("missing: layers.{expected_layer}.attention.gate"));
        }
        if gate.len() != heads {
            return Err(format!("layers.{layer}: expected {heads} gates, found {}", gate.len()));
        }
    }
    if gates.is_empty() {
        return Err("missing: layers.0.attention.gate".into());
    }
    Ok(gates.into_values().collect())
}

/// Writes the prompts of an adapter that was converted for this format.
pub(super) fn write(path: &Path, data: &AdapterData, to: &'static str) -> Result<()> {
    let required = "the model's number of layers";
    let sizes = data.base.sizes.as_ref().ok_or(Error::MissingBaseInfo { to, required })?;
    let prompts = data.prompts.as_ref().expect("a converted adapter has prompts");
    let heads = prompts.layers.values().next().map_or(1, |own| own.gate.len());
    let mut tensors = HostTensors::new();
    let mut table = Vec::new();
    for layer in 0..sizes.n_layers {
        let own = prompts.layers.get(&layer);
        let gate = own.map_or_else(|| vec![0.0; heads], |own| own.gate.clone());
        let name = format!("layers.{layer}.attention.gate");
        tensors.insert(name, HostTensor::new([1, heads, 1, 1], gate));
        table.extend(own.iter().flat_map(|own| own.prompt.iter().copied()));
    }
    let rows = table.len() / prompts.d_model;
    tensors.insert(PROMPT_TABLE.into(), HostTensor::new([rows, prompts.d_model], table));
    torch_file::write(path, tensors, None)
}
