//! The original release's `.pth`: one table of prompts, and a gate for every layer of the model.
//!
//! ```text
//! adapter_query.weight        [K * L, C]      rows l*K .. (l+1)*K belong to layer N - L + l
//! layers.{i}.attention.gate   [1, H, 1, 1]    of all N layers; those below the last L are unused
//! ```
//!
//! Its training code passes gates through tanh; the code that answered with version 1 forgot to.
//! The file does not say which is meant: tanh, unless the caller knows better.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::parse_layer_index;
use super::tensors::{HostTensor, HostTensors};
use super::torch;
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{AdapterData, PromptData, PromptLayerData};
use crate::error::{Error, Result};

/// The tensor of all prompts.
pub(crate) const PROMPT_TABLE: &str = "adapter_query.weight";

/// The layer of a gate's name.
fn gate_layer(name: &str) -> Option<usize> {
    parse_layer_index(name.strip_prefix("layers.")?.strip_suffix(".attention.gate")?)
}

/// Whether a tensor belongs to such an adapter.
pub(crate) fn is_adapter_tensor(name: &str) -> bool {
    name == PROMPT_TABLE || gate_layer(name).is_some()
}

/// Number of adapted layers, which the file does not say: from the lowest whose gate is not 0, or
/// as few more as the table's rows can be divided among. Where all gates are 0 the release's own
/// length of a prompt is taken.
fn count_layers(first_open: Option<usize>, n_layers: usize, rows: usize) -> Option<usize> {
    let count = match first_open {
        Some(first) => (n_layers - first..=n_layers).find(|&count| rows.is_multiple_of(count)),
        None => Some((rows / RELEASED_LEN).min(n_layers)),
    };
    count.filter(|&count| count > 0 && rows > 0 && rows.is_multiple_of(count))
}

/// Whether a file of these prompts, which reach to the model's last layer, tells how many they are.
pub(crate) fn n_layers_is_recoverable(prompts: &PromptData, n_layers: usize) -> bool {
    let open = |own: &PromptLayerData| own.gate.iter().any(|&gate| gate != 0.0);
    let first = prompts.layers.iter().find(|(_, own)| open(own)).map(|(layer, _)| *layer);
    let count = prompts.layers.len();
    count_layers(first, n_layers, count * prompts.adapter_len) == Some(count)
}

/// Reads a file.
pub(crate) fn read(path: &Path, activation: GateActivation) -> Result<AdapterData> {
    let mut arrays = torch::read(path, is_adapter_tensor)?;
    let wrong =
        |problem: String| Error::TensorMismatch { path: path.into(), problems: vec![problem] };
    let table =
        arrays.remove(PROMPT_TABLE).ok_or_else(|| wrong(format!("missing: {PROMPT_TABLE}")))?;
    let &[rows, d_model] = &table.shape[..] else {
        return Err(wrong(format!("{PROMPT_TABLE}: expected [K * L, C], found {:?}", table.shape)));
    };
    let gates = gates(arrays).map_err(wrong)?;
    let n_layers = gates.len();
    let first = gates.iter().position(|gate| gate.iter().any(|&number| number != 0.0));
    let count = count_layers(first, n_layers, rows).filter(|_| d_model > 0);
    let count = count.ok_or_else(|| {
        let first = first.map_or(String::new(), |first| format!(" from layer {first} up"));
        wrong(format!(
            "{PROMPT_TABLE}: {:?} cannot be divided evenly among the model's {n_layers} layers{first}",
            table.shape
        ))
    })?;
    let adapter_len = rows / count;
    let heads = gates.first().map_or(0, Vec::len);
    let gate = if heads == 1 { Gate::Scalar } else { Gate::PerHead };
    let prompts = table.values.chunks_exact(adapter_len * d_model);
    let layers = (n_layers - count..).zip(prompts).map(|(layer, prompt)| {
        let gate = gates[layer].clone();
        (layer, PromptLayerData { prompt: prompt.to_vec(), gate, factor: None })
    });
    let layers = layers.collect();
    let projection = PromptProjection::default();
    let prompts = PromptData { adapter_len, d_model, gate, activation, projection, layers };
    Ok(AdapterData { prompts: Some(prompts), ..AdapterData::default() })
}

/// Prompt tokens of the released adapters.
const RELEASED_LEN: usize = 10;

/// Gates of all layers, from the first to the last.
pub(crate) fn gates(arrays: HostTensors) -> Result<Vec<Vec<f32>>, String> {
    let mut gates = BTreeMap::new();
    for (name, array) in arrays {
        let layer = gate_layer(&name).ok_or_else(|| format!("unexpected: {name}"))?;
        if array.squeezed().len() > 1 || array.values.is_empty() {
            return Err(format!(
                "{name}: expected one gate or one a head, found {:?}",
                array.shape
            ));
        }
        gates.insert(layer, array.values);
    }
    let heads = gates.values().next().map_or(0, Vec::len);
    for (place, (layer, gate)) in gates.iter().enumerate() {
        if *layer != place {
            return Err(format!("missing: layers.{place}.attention.gate"));
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

/// Writes a file of a model with `n_layers` layers; the prompts are those of its last ones.
pub(crate) fn write(path: &Path, prompts: &PromptData, n_layers: usize) -> Result<()> {
    let heads = prompts.layers.values().next().map_or(1, |own| own.gate.len());
    let mut arrays = HostTensors::new();
    let mut table = Vec::new();
    for layer in 0..n_layers {
        let own = prompts.layers.get(&layer);
        let gate = own.map_or_else(|| vec![0.0; heads], |own| own.gate.clone());
        arrays.insert(
            format!("layers.{layer}.attention.gate"),
            HostTensor::new([1, heads, 1, 1], gate),
        );
        table.extend(own.iter().flat_map(|own| own.prompt.iter().copied()));
    }
    let rows = table.len() / prompts.d_model;
    arrays.insert(PROMPT_TABLE.into(), HostTensor::new([rows, prompts.d_model], table));
    torch::write(path, arrays, None)
}
