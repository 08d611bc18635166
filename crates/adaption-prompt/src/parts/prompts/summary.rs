//! Summary of prompts and gates. The gates show whether an adapter was trained.

use std::fmt::Write;

use serde::Serialize;

use super::data::PromptData;
use crate::gate::{Gate, GateActivation};
use crate::part::PartSummary;

/// Summary of the prompts of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptSummary {
    /// Prompt tokens per layer.
    pub adapter_len: usize,
    /// Width of the model.
    pub d_model: usize,
    /// Gates per layer.
    pub gate: Gate,
    /// Activation of the gates.
    pub activation: GateActivation,
    /// From the lowest adapted layer to the highest.
    pub layers: Vec<PromptLayerSummary>,
}

/// Summary of one adapted layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptLayerSummary {
    /// Layer index.
    pub layer: usize,
    /// Activated gates times the factor: one value, or one per head. All are 0 before training.
    pub gates: Vec<f32>,
    /// Root mean square of the prompt's values; about 1 before training.
    pub prompt_rms: f32,
}

impl PromptSummary {
    pub(super) fn from_data(data: &PromptData) -> Self {
        let layers = data.layers.iter().map(|(&layer, own)| PromptLayerSummary {
            layer,
            gates: data.effective_gates(own),
            prompt_rms: crate::param::rms(own.prompt.iter().copied()),
        });
        Self {
            adapter_len: data.adapter_len,
            d_model: data.d_model,
            gate: data.gate,
            activation: data.activation,
            layers: layers.collect(),
        }
    }

    /// Smallest, largest and mean gate of all layers.
    pub fn gate_range(&self) -> (f32, f32, f32) {
        let gates = self.layers.iter().flat_map(|layer| layer.gates.iter().copied());
        range(&gates.collect::<Vec<_>>())
    }
}

/// Smallest, largest and mean value.
fn range(values: &[f32]) -> (f32, f32, f32) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (min, max, values.iter().sum::<f32>() / values.len().max(1) as f32)
}

impl PartSummary for PromptSummary {
    fn short(&self) -> String {
        format!("{} prompts", self.adapter_len)
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let gate = match (self.gate, self.activation) {
            (Gate::Scalar, GateActivation::Identity) => "one per layer",
            (Gate::Scalar, GateActivation::Tanh) => "one per layer, tanh",
            (Gate::PerHead, GateActivation::Identity) => "one per head",
            (Gate::PerHead, GateActivation::Tanh) => "one per head, tanh",
        };
        let ends = [self.layers.first(), self.layers.last()];
        let [first, last] = ends.map(|layer| layer.map_or(0, |layer| layer.layer));
        let (len, count) = (self.adapter_len, self.layers.len());
        let (min, max, mean) = self.gate_range();
        let mut lines = vec![
            ("prompts", format!("prompt length {len}, {count} adapted layers ({first} to {last})")),
            ("gates", format!("{gate}; from {min:.4} to {max:.4}, mean {mean:.4}")),
        ];
        if min == 0.0 && max == 0.0 {
            lines.push(("", "all gates are zero: the adapter is untrained".into()));
        }
        lines
    }

    fn table(&self) -> Option<String> {
        let mut table = "layer  gate min  gate max  gate mean  prompt rms\n".to_owned();
        for PromptLayerSummary { layer, gates, prompt_rms } in &self.layers {
            let (min, max, mean) = range(gates);
            writeln!(table, "{layer:5}  {min:8.4}  {max:8.4}  {mean:9.4}  {prompt_rms:10.4}")
                .expect("a string takes any text");
        }
        Some(table)
    }
}
