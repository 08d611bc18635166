//! The config of an adapter and statistics of its gates.

use std::fmt;
use std::path::{Path, PathBuf};

use adaption_prompt::AdapterSummary;
use adaption_prompt::files::peft::{PICKLE_FILE, TENSORS_FILE};
use adaption_prompt::files::{self, Format};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use text::PromptFormat;

use crate::error::Error;
use crate::failure::Result;
use crate::terminal::{Paint, gate_bars};

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
            let (min, max, mean) = prompts.gate_range();
            GateStats { min, max, mean }
        });
        Ok(Self { path: path.into(), format: format.name(), bytes, summary, gates })
    }

    /// The gates as a drawing; `None` for an adapter without prompts.
    pub fn gate_bars(&self, paint: Paint) -> Option<String> {
        let prompts = self.summary.prompts.as_ref()?;
        let layers = prompts.layers.iter().map(|own| (own.layer, own.gates.as_slice()));
        Some(gate_bars(&layers.collect::<Vec<_>>(), paint))
    }
}

/// The prompt format of the training on one line.
fn describe_format(format: Option<&PromptFormat>) -> String {
    match format {
        None => format!("{} (the default)", PromptFormat::default().template),
        Some(PromptFormat { template, system: None }) => template.to_string(),
        Some(PromptFormat { template, system: Some(system) }) => {
            format!("{template}, system prompt \"{}\"", system.escape_debug())
        }
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        let base = summary.base_model.as_deref().unwrap_or("unknown");
        let prompts = summary.prompts.as_ref();
        let width = prompts.map_or(String::new(), |own| format!(" (d_model {})", own.d_model));
        writeln!(f, "adapter     {} ({})", self.path.display(), self.format)?;
        writeln!(f, "base model  {}{width}", base.escape_debug())?;
        writeln!(f, "template    {}", describe_format(summary.prompt_format.as_ref()))?;
        for (label, text) in summary.parts().into_iter().flat_map(|(_, part)| part.lines()) {
            writeln!(f, "{label:<12}{text}")?;
        }
        writeln!(f, "parameters  {}", HumanCount(summary.n_parameters as u64))?;
        writeln!(f, "on disk     {}", HumanBytes(self.bytes))?;
        for table in summary.parts().into_iter().filter_map(|(_, part)| part.table()) {
            write!(f, "\n{table}")?;
        }
        Ok(())
    }
}
