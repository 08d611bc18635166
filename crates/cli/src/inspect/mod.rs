//! `llama-adapter inspect`: a path ─► its contents, as text or JSON

mod adapter;
mod gguf;
mod lines;
mod model;
mod tensors;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use adaption_prompt::files::peft::CONFIG_FILE;
use adaption_prompt::files::{Format, SETTINGS_FILE};
use checkpoint::gguf::GgufFile;
use checkpoint::{ByteSource, FileKind, WeightFile};
use llama::ModelSource;
use serde::Serialize;

use crate::cache::fetched_path;
use crate::error::Error;
use crate::failure::Result;
use crate::known_models::KnownModel;
use crate::output;
use crate::terminal::Paint;
use crate::warnings::warn_unknown_settings;

use adapter::{AdapterReport, MixReport};
use gguf::GgufReport;
use model::ModelReport;
use tensors::FileReport;

/// Show the contents of a model, an adapter or a weight file.
///
/// Config, tensor shapes, dtypes and memory of a model; config and gates of an adapter, which are also
/// drawn: a bar for each layer, a column for each head.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder, .gguf file, adapter folder or file, .safetensors or .pth file, or the name of a
    /// fetched model. Default: the built-in tiny model.
    path: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// File name extensions of PyTorch files.
const TORCH: [&str; 4] = ["pth", "pt", "bin", "ckpt"];

/// The contents of a path, by kind.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum InspectReport {
    Model(ModelReport),
    Gguf(GgufReport),
    Adapter(AdapterReport),
    Mix(MixReport),
    Safetensors(FileReport),
    Torch(FileReport),
}

pub fn run(args: &Args) -> Result {
    let report = match &args.path {
        None => InspectReport::Model(ModelReport::built_in()?),
        Some(path) => inspect(path)?,
    };
    if args.json {
        return Ok(output::json(&report)?);
    }
    let text: &dyn Display = match &report {
        InspectReport::Model(report) => report,
        InspectReport::Gguf(report) => report,
        InspectReport::Adapter(report) => report,
        InspectReport::Mix(report) => report,
        InspectReport::Safetensors(report) | InspectReport::Torch(report) => report,
    };
    let gates = match &report {
        InspectReport::Adapter(report) => report.gate_bars(Paint::stdout()),
        _ => None,
    };
    let gates = gates.map_or(String::new(), |bars| format!("\n{bars}"));
    Ok(output::print(&format!("{text}{gates}"))?)
}

fn inspect(path: &Path) -> Result<InspectReport> {
    let known = path.to_str().and_then(KnownModel::find);
    let path = match known {
        Some(known) if !path.exists() => &fetched_path(known)?,
        _ => path,
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    if !path.exists() {
        return Err(Error::PathNotFound { path: path.into() }.into());
    }
    // Tensor files are shown as such, even those of an adapter.
    let is_tensors = extension.is_some_and(|end| ["bin", "safetensors"].contains(&end));
    let detected = if is_tensors { None } else { Some(Format::detect(path)) };
    if let Some(Err(error @ adaption_prompt::Error::AdaptersInSubfolders { .. })) = detected {
        return Err(error.into());
    }
    let is_adapter = [CONFIG_FILE, SETTINGS_FILE].iter().any(|file| path.join(file).exists())
        || matches!(detected, Some(Ok(_)));
    Ok(if is_adapter {
        warn_unknown_settings(path);
        match MixReport::read(path)? {
            Some(report) => InspectReport::Mix(report),
            None => InspectReport::Adapter(AdapterReport::read(path)?),
        }
    } else if path.is_dir() {
        let source = ModelSource::open(path)?;
        match source.gguf() {
            Some(file) => InspectReport::Gguf(GgufReport::new(file)),
            None => InspectReport::Model(ModelReport::folder(&source)?),
        }
    } else {
        let kind = FileKind::of(&ByteSource::open(path)?)?;
        // The kind of a damaged file follows from its name.
        let named = |names: &[&str]| {
            kind == FileKind::Other && extension.is_some_and(|extension| names.contains(&extension))
        };
        if kind == FileKind::Gguf || named(&["gguf"]) {
            InspectReport::Gguf(GgufReport::new(&GgufFile::open_all(path)?))
        } else if kind != FileKind::Other || named(&TORCH) || named(&["safetensors"]) {
            let file = WeightFile::open(path)?;
            let is_torch = matches!(file, WeightFile::Torch(_));
            let report = FileReport::new(path, &[file]);
            if is_torch { InspectReport::Torch(report) } else { InspectReport::Safetensors(report) }
        } else {
            return Err(Error::UnknownFileKind { path: path.into() }.into());
        }
    })
}
