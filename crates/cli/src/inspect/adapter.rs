//! An adapter's settings, and its gates: they tell whether it has learned anything.

use std::fmt;
use std::path::{Path, PathBuf};

use adaption_prompt::{Activation, AdapterSummary, Gate};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct AdapterReport {
    path: PathBuf,
    base_model: Option<String>,
    adapter_len: usize,
    adapter_layers: usize,
    gate: Gate,
    activation: Activation,
    parameters: usize,
    bytes: u64,
    gates: Spread,
    layers: Vec<LayerLine>,
}

#[derive(Debug, Serialize)]
struct LayerLine {
    layer: usize,
    d_model: usize,
    gates: Vec<f32>,
    prompt_rms: f32,
}

/// Where some numbers lie.
#[derive(Debug, Serialize)]
struct Spread {
    min: f32,
    max: f32,
    mean: f32,
}

impl Spread {
    fn of(numbers: &[f32]) -> Self {
        Self {
            min: numbers.iter().copied().fold(f32::INFINITY, f32::min),
            max: numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            mean: numbers.iter().sum::<f32>() / numbers.len().max(1) as f32,
        }
    }
}

impl AdapterReport {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let summary = AdapterSummary::read(path)?;
        let gates = summary.layers.iter().flat_map(|layer| layer.gates.clone());
        let layers = summary.layers.iter().map(|layer| LayerLine {
            layer: layer.layer,
            d_model: layer.d_model,
            gates: layer.gates.clone(),
            prompt_rms: layer.prompt_rms,
        });
        Ok(Self {
            path: path.into(),
            adapter_len: summary.config.adapter_len,
            adapter_layers: summary.config.adapter_layers,
            gate: summary.config.gate,
            activation: summary.config.activation,
            parameters: summary.n_parameters,
            bytes: summary.len_bytes,
            gates: Spread::of(&gates.collect::<Vec<_>>()),
            layers: layers.collect(),
            base_model: summary.base_model,
        })
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = match (self.gate, self.activation) {
            (Gate::Scalar, Activation::Identity) => "one a layer",
            (Gate::Scalar, Activation::Tanh) => "one a layer, through tanh",
            (Gate::PerHead, Activation::Identity) => "one a head",
            (Gate::PerHead, Activation::Tanh) => "one a head, through tanh",
        };
        let width = self.layers.first().map_or(0, |layer| layer.d_model);
        let base = self.base_model.as_deref().unwrap_or("not named");
        let Spread { min, max, mean } = self.gates;
        writeln!(f, "adapter     {}", self.path.display())?;
        writeln!(f, "made for    {} (width {width})", base.escape_debug())?;
        writeln!(
            f,
            "prompts     {} tokens in each of the last {} layers",
            self.adapter_len, self.adapter_layers
        )?;
        writeln!(f, "gates       {gate}; from {min:.4} to {max:.4}, mean {mean:.4}")?;
        if min == 0.0 && max == 0.0 {
            writeln!(f, "            all are 0: this adapter has learned nothing yet")?;
        }
        writeln!(f, "parameters  {}", HumanCount(self.parameters as u64))?;
        writeln!(f, "on disk     {}", HumanBytes(self.bytes))?;
        writeln!(f, "\nlayer  gate min  gate max  gate mean  prompt rms")?;
        for layer in &self.layers {
            let Spread { min, max, mean } = Spread::of(&layer.gates);
            let (index, rms) = (layer.layer, layer.prompt_rms);
            writeln!(f, "{index:5}  {min:8.4}  {max:8.4}  {mean:9.4}  {rms:10.4}")?;
        }
        Ok(())
    }
}
