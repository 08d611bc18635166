//! An adapter's settings, and its gates: they tell whether it has learned anything.

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
    #[serde(serialize_with = "crate::output::lossy")]
    path: PathBuf,
    format: &'static str,
    bytes: u64,
    #[serde(flatten)]
    summary: AdapterSummary,
    /// Of all gates of all layers.
    gates: Option<Spread>,
}

/// A mix of adapters.
#[derive(Debug, Serialize)]
pub struct MixReport {
    #[serde(serialize_with = "crate::output::lossy")]
    path: PathBuf,
    parts: Vec<MixLine>,
}

#[derive(Debug, Serialize)]
struct MixLine {
    weight: f64,
    #[serde(flatten)]
    adapter: AdapterReport,
}

impl MixReport {
    /// Reads a folder, if it is a mix.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let Some(parts) = files::read_mix(path)? else { return Ok(None) };
        let parts = parts.into_iter().map(|(name, weight, _data)| {
            Ok(MixLine { weight, adapter: AdapterReport::read(&path.join(name))? })
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Some(Self { path: path.into(), parts }))
    }
}

impl fmt::Display for MixReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mix         {} of {} adapters", self.path.display(), self.parts.len())?;
        self.parts.iter().try_for_each(|MixLine { weight, adapter }| {
            write!(f, "\nweight      {weight}\n{adapter}")
        })
    }
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
            Spread::of(&gates.collect::<Vec<_>>())
        });
        Ok(Self { path: path.into(), format: format.name(), bytes, summary, gates })
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterSummary { base_model, prompts, v2, lora, image, n_parameters } = &self.summary;
        let base = base_model.as_deref().unwrap_or("not named");
        let width =
            prompts.as_ref().map_or(String::new(), |own| format!(" (width {})", own.d_model));
        writeln!(f, "adapter     {} ({})", self.path.display(), self.format)?;
        writeln!(f, "made for    {}{width}", base.escape_debug())?;
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
            let Spread { min, max, mean } = Spread::of(gates);
            writeln!(f, "{layer:5}  {min:8.4}  {max:8.4}  {mean:9.4}  {prompt_rms:10.4}")?;
        }
        Ok(())
    }
}

fn write_image(f: &mut fmt::Formatter<'_>, image: &ImageConfig) -> fmt::Result {
    let tokens = match image.form {
        ImageProjectorConfig::Global { hidden } => {
            format!("one token of the whole image, width {hidden}")
        }
        ImageProjectorConfig::Queries { count, width, blocks, heads } => {
            format!("{count} queries in {blocks} blocks of width {width} and {heads} heads")
        }
    };
    let fusion = match image.fusion {
        ImageFusion::Prompts { .. } => "added to the prompts".to_owned(),
        ImageFusion::Early { layers, .. } => format!("prompts of the first {layers} layers"),
    };
    writeln!(f, "images      {tokens}; {fusion}")?;
    if let Some(EncoderInfo { name, spec: reading, .. }) = &image.encoder {
        let state = |state: &HiddenState| match state {
            HiddenState::Layer(layer) => layer.to_string(),
            HiddenState::Normed => "normed".into(),
            HiddenState::Projected => "projected".into(),
        };
        let states = reading.states.iter().map(state).collect::<Vec<_>>().join(", ");
        let (size, name) = (reading.image_size, name.escape_debug());
        writeln!(f, "encoder     {name}, images of {size} pixels a side, states {states}")?;
    }
    Ok(())
}

fn write_prompts(
    f: &mut fmt::Formatter<'_>,
    prompts: &PromptSummary,
    gates: &Spread,
) -> fmt::Result {
    let gate = match (prompts.gate, prompts.activation) {
        (Gate::Scalar, GateActivation::Identity) => "one a layer",
        (Gate::Scalar, GateActivation::Tanh) => "one a layer, through tanh",
        (Gate::PerHead, GateActivation::Identity) => "one a head",
        (Gate::PerHead, GateActivation::Tanh) => "one a head, through tanh",
    };
    let (first, last) = (prompts.layers.first(), prompts.layers.last());
    let [first, last] = [first, last].map(|layer| layer.map_or(0, |layer| layer.layer));
    let count = prompts.layers.len();
    writeln!(
        f,
        "prompts     {} tokens in each of {count} layers, from {first} to {last}",
        prompts.adapter_len
    )?;
    let Spread { min, max, mean } = gates;
    writeln!(f, "gates       {gate}; from {min:.4} to {max:.4}, mean {mean:.4}")?;
    if *min == 0.0 && *max == 0.0 {
        writeln!(f, "            all are 0: this adapter has learned nothing yet")?;
    }
    Ok(())
}

fn write_v2(f: &mut fmt::Formatter<'_>, v2: &V2Summary) -> fmt::Result {
    let V2Summary { scale, linears, norms, scale_rms, bias_rms } = v2;
    let scale = match scale {
        V2Scale::None => "no scale".to_owned(),
        V2Scale::Output => format!("scale on the output, {scale_rms:.4} from 1"),
        V2Scale::Input => format!("scale on the input, {scale_rms:.4} from 1"),
    };
    writeln!(f, "v2          {linears} linear layers, {norms} norms; {scale}; bias {bias_rms:.4}")
}
