//! `llama-adapter inspect`: a path ─► what is in it, as text or JSON

mod adapter;
mod gguf;
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

use crate::adapters::warn_unknown_settings;
use crate::error::Error;
use crate::failure::Result;
use crate::known::KnownModel;
use crate::output;

use adapter::{AdapterReport, MixReport};
use gguf::GgufReport;
use model::ModelReport;
use tensors::FileReport;

/// Show what is in a model, an adapter or a file of weights.
///
/// Sizes, shapes, precision and memory of a model; the settings and gates of an adapter, which
/// tell whether it has learned anything.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model's folder, a .gguf file, an adapter's folder or file, a .safetensors or .pth file, or
    /// the name of a fetched model. Default: the tiny model that is built in.
    path: Option<PathBuf>,
    /// Write JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// What files of PyTorch's are called.
const TORCH: [&str; 4] = ["pth", "pt", "bin", "ckpt"];

/// One of the things that can be looked at.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Report {
    Model(ModelReport),
    Gguf(GgufReport),
    Adapter(AdapterReport),
    Mix(MixReport),
    Safetensors(FileReport),
    Torch(FileReport),
}

pub fn run(args: &Args) -> Result {
    let report = match &args.path {
        None => Report::Model(ModelReport::built_in()?),
        Some(path) => look(path)?,
    };
    if args.json {
        return output::json(&report);
    }
    let text: &dyn Display = match &report {
        Report::Model(report) => report,
        Report::Gguf(report) => report,
        Report::Adapter(report) => report,
        Report::Mix(report) => report,
        Report::Safetensors(report) | Report::Torch(report) => report,
    };
    output::print(&text.to_string())
}

fn look(path: &Path) -> Result<Report> {
    let known = path.to_str().and_then(KnownModel::find);
    let path = match known {
        Some(known) if !path.exists() => &known.fetched()?,
        _ => path,
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    if !path.exists() {
        return Err(Error::PathNotFound { path: path.into() }.into());
    }
    // Files of tensors are shown as such, even if they are an adapter's.
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
            Some(report) => Report::Mix(report),
            None => Report::Adapter(AdapterReport::read(path)?),
        }
    } else if path.is_dir() {
        let source = ModelSource::open(path)?;
        match source.gguf() {
            Some(file) => Report::Gguf(GgufReport::new(file)),
            None => Report::Model(ModelReport::folder(&source)?),
        }
    } else {
        let kind = FileKind::of(&ByteSource::open(path)?)?;
        // What a damaged file should have been, its name says.
        let named = |names: &[&str]| {
            kind == FileKind::Other && extension.is_some_and(|extension| names.contains(&extension))
        };
        if kind == FileKind::Gguf || named(&["gguf"]) {
            Report::Gguf(GgufReport::new(&GgufFile::open_all(path)?))
        } else if kind != FileKind::Other || named(&TORCH) || named(&["safetensors"]) {
            let file = WeightFile::open(path)?;
            let is_torch = matches!(file, WeightFile::Torch(_));
            let report = FileReport::new(path, &[file]);
            if is_torch { Report::Torch(report) } else { Report::Safetensors(report) }
        } else {
            return Err(Error::UnknownFileKind { path: path.into() }.into());
        }
    })
}
