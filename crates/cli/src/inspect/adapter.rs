//! The config of an adapter and statistics of its gates.

use std::fmt;
use std::path::{Path, PathBuf};

use adaption_prompt::files::peft::{PICKLE_FILE, TENSORS_FILE};
use adaption_prompt::files::{self, Format};
use adaption_prompt::{
    AdapterSummary, Gate, GateActivation, ImageConfig, ImageFusion, ImageProjectorConfig,
    LoraSummary, PromptLayerSummary, PromptSummary, V2Scale, V2Summary,
};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use vision::{EncoderInfo, HiddenState};

use crate::error::Error;
use crate::failure::Result;

#[derive(Debug, Serialize)]
pub struct AdapterReport {
    #[serde(serialize_with = "crate::output::serialize_path_lossy")]
    path: PathBuf,
    format: &'static str,
    bytes: u64,
    #[serde(flatten)]
    summary: AdapterSummary,
    /// Over all gates of all layers.
    gates: Option<GateStats>,
}

/// A mix of adapters.
#[derive(Debug, Serialize)]
pub struct MixReport {
    #[serde(serialize_with = "crate::output::serialize_path_lossy")]
    path: PathBuf,
    parts: Vec<MixEntry>,
}

#[derive(Debug, Serialize)]
struct MixEntry {
    weight: f64,
    #[serde(flatten)]
    adapter: AdapterReport,
}

impl MixReport {
    /// Reads a folder; `None` if it is not a mix.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let Some(parts) = files::read_mix(path)? else { return Ok(None) };
        let parts = parts.into_iter().map(|(name, weight, _data)| {
            Ok(MixEntry { weight, adapter: AdapterReport::read(&path.join(name))? })
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Some(Self { path: path.into(), parts }))
    }
}

impl fmt::Display for MixReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mix         {} of {} adapters", self.path.display(), self.parts.len())?;
        self.parts.iter().try_for_each(|MixEntry { weight, adapter }| {
            write!(f, "\nweight      {weight}\n{adapter}")
        })
    }
}

/// Statistics of gates.
#[derive(Debug, Serialize)]
struct GateStats {
    min: f32,
    max: f32,
    mean: f32,
}

impl GateStats {
    fn of(gates: &[f32]) -> Self {
        Self {
            min: gates.iter().copied().fold(f32::INFINITY, f32::min),
            max: gates.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            mean: gates.iter().sum::<f32>() / gates.len().max(1) as f32,
        }
    }
}

impl AdapterReport {
    pub fn read(path: &Path) -> Result<Self> {
        let resolved = files::resolve_path(path);
        let path = resolved.as_path();
        let format = Format::detect(path)?;
        let summary = AdapterSummary::read(path)?;
        let tensors = [TENSORS_FILE, PICKLE_FILE].map(|name| path.join(name));
        let file = tensors.iter().find(|file| file.exists()).map_or(path, PathBuf::as_path);
        let bytes = std::fs::metadata(file).map_err(Error::file(file, "read"))?.len();
        let gates = summary.prompts.as_ref().map(|prompts| {
            let gates = prompts.layers.iter().flat_map(|layer| layer.gates.clone());
            GateStats::of(&gates.collect::<Vec<_>>())
        });
        Ok(Self { path: path.into(), format: format.name(), bytes, summary, gates })
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterSummary { base_model, prompts, v2, lora, image, n_parameters } = &self.summary;
        let base = base_model.as_deref().unwrap_or("unknown");
        let d_model = prompts
            .as_ref()
            .map_or(String::new(), |prompts| format!(" (d_model {})", prompts.d_model));
        writeln!(f, "adapter     {} ({})", self.path.display(), self.format)?;
        writeln!(f, "base model  {}{d_model}", base.escape_debug())?;
        if let (Some(prompts), Some(gates)) = (prompts, &self.gates) {
            write_prompts(f, prompts, gates)?;
        }
        if let Some(v2) = v2 {
            write_v2(f, v2)?;
        }
        if let Some(LoraSummary { rank, alpha, linears }) = lora {
            writeln!(f, "lora        rank {rank}, alpha {alpha}, on {linears} linear layers")?;
        }
        if let Some(image) = image {
            write_image(f, image)?;
        }
        writeln!(f, "parameters  {}", HumanCount(*n_parameters as u64))?;
        writeln!(f, "on disk     {}", HumanBytes(self.bytes))?;
        let Some(prompts) = prompts else { return Ok(()) };
        writeln!(f, "\nlayer  gate min  gate max  gate mean  prompt rms")?;
        for PromptLayerSummary { layer, gates, prompt_rms } in &prompts.layers {
            let GateStats { min, max, mean } = GateStats::of(gates);
            writeln!(f, "{layer:5}  {min:8.4}  {max:8.4}  {mean:9.4}  {prompt_rms:10.4}")?;
        }
        Ok(())
    }
}

fn write_image(f: &mut fmt::Formatter<'_>, image: &ImageConfig) -> fmt::Result {
    let tokens = match image.form {
        ImageProjectorConfig::Global { hidden } => {
            format!("global features, hidden size {hidden}")
        }
        ImageProjectorConfig::Queries { count, width, blocks, heads } => {
            format!("{count} visual queries, {blocks} blocks, hidden size {width}, {heads} heads")
        }
    };
    let fusion = match image.fusion {
        ImageFusion::Prompts { .. } => "added to the adaption prompts".to_owned(),
        ImageFusion::Early { layers, .. } => format!("early fusion in the first {layers} layers"),
    };
    writeln!(f, "images      {tokens}; {fusion}")?;
    if let Some(EncoderInfo { name, spec, .. }) = &image.encoder {
        let state = |state: &HiddenState| match state {
            HiddenState::Layer(layer) => layer.to_string(),
            HiddenState::Normed => "normed".into(),
            HiddenState::Projected => "projected".into(),
        };
        let states = spec.states.iter().map(state).collect::<Vec<_>>().join(", ");
        let (size, name) = (spec.image_size, name.escape_debug());
        writeln!(f, "encoder     {name}, input {size} x {size} pixels, features {states}")?;
    }
    Ok(())
}

fn write_prompts(
    f: &mut fmt::Formatter<'_>,
    prompts: &PromptSummary,
    gates: &GateStats,
) -> fmt::Result {
    let gate = match (prompts.gate, prompts.activation) {
        (Gate::Scalar, GateActivation::Identity) => "one per layer",
        (Gate::Scalar, GateActivation::Tanh) => "one per layer, tanh",
        (Gate::PerHead, GateActivation::Identity) => "one per head",
        (Gate::PerHead, GateActivation::Tanh) => "one per head, tanh",
    };
    let (first, last) = (prompts.layers.first(), prompts.layers.last());
    let [first, last] = [first, last].map(|layer| layer.map_or(0, |layer| layer.layer));
    let count = prompts.layers.len();
    writeln!(
        f,
        "prompts     prompt length {}, {count} adapted layers ({first} to {last})",
        prompts.adapter_len
    )?;
    let GateStats { min, max, mean } = gates;
    writeln!(f, "gates       {gate}; from {min:.4} to {max:.4}, mean {mean:.4}")?;
    if *min == 0.0 && *max == 0.0 {
        writeln!(f, "            all gates are zero: the adapter is untrained")?;
    }
    Ok(())
}

fn write_v2(f: &mut fmt::Formatter<'_>, v2: &V2Summary) -> fmt::Result {
    let V2Summary { scale, linears, norms, scale_rms, bias_rms } = v2;
    let scale = match scale {
        V2Scale::None => "no scale".to_owned(),
        V2Scale::Output => format!("output scale, RMS deviation from 1: {scale_rms:.4}"),
        V2Scale::Input => format!("input scale, RMS deviation from 1: {scale_rms:.4}"),
    };
    writeln!(
        f,
        "v2          {linears} linear layers, {norms} norms; {scale}; bias RMS {bias_rms:.4}"
    )
}
