//! `llama-adapter convert`: an adapter of one format ─► another

use std::path::{Path, PathBuf};

use adaption_prompt::files::{self, AdapterReadOptions, Format};
use adaption_prompt::{BaseInfo, GateActivation};
use clap::ValueEnum;

use crate::adapters::warn_unknown_settings;
use crate::error::Error;
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output::note;

/// Turn an adapter of one format into another.
///
/// Formats are llama-adapter (a folder that holds everything), peft and peft-bin (PEFT's folder,
/// with a safetensors file or, as older versions wrote it, a pickle), original (the original
/// release's .pth), lit-llama and litgpt. What lies at FROM is recognised. The new adapter does what
/// the old one did; where a format cannot hold that, nothing is written unless --lossy says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The adapter: a folder or a file.
    from: PathBuf,
    /// Where to write; nothing may be there yet.
    to: PathBuf,
    /// Format to write [default: by the name of TO: litgpt for .pth.adapter and .pth.adapter_v2,
    /// original for .pth, lit-llama for .ckpt, else llama-adapter].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// What gates of the original format pass through: tanh, as in its training code, or nothing,
    /// as in its first code for answering.
    #[arg(long, value_enum, default_value_t)]
    original_gates: GatesChoice,
    /// Convert even if something is lost, and say what.
    #[arg(long)]
    lossy: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// The choices of `--original-gates`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum GatesChoice {
    #[default]
    Tanh,
    Plain,
}

impl From<GatesChoice> for GateActivation {
    fn from(choice: GatesChoice) -> Self {
        match choice {
            GatesChoice::Tanh => Self::Tanh,
            GatesChoice::Plain => Self::Identity,
        }
    }
}

pub fn run(args: &Args) -> Result {
    let format = args.format.unwrap_or_else(|| by_name(&args.to));
    must_be_free(&args.to, "path")?;
    let hints = AdapterReadOptions {
        base: base_info(args, format)?,
        original_gates: args.original_gates.into(),
    };
    let from = Format::detect(&args.from)?;
    let data = files::read(&args.from, &hints)?;
    if let Some(sizes) = &hints.base.sizes {
        let problems = data.check_shapes(sizes);
        if !problems.is_empty() {
            let path = args.from.clone();
            return Err(adaption_prompt::Error::TensorMismatch { path, problems }.into());
        }
    }
    warn_unknown_settings(&args.from);
    let losses = files::write(&data, &args.to, format, hints.original_gates, args.lossy)?;
    note(&format!("{from} ─► {format}: {} numbers in {}", data.n_parameters(), args.to.display()));
    for loss in losses {
        note(&format!("lost: {loss}"));
    }
    Ok(())
}

/// What the command line says about the base. Weights are looked at only where the new adapter
/// keeps what tells its base from others.
fn base_info(args: &Args, format: Format) -> Result<BaseInfo> {
    let Some(name) = args.model.name() else { return Ok(BaseInfo::default()) };
    let source = args.model.source()?;
    let fingerprint = match format {
        Format::LlamaAdapter => Some(args.model.load()?.llama.fingerprint()?),
        _ => None,
    };
    Ok(BaseInfo { fingerprint, ..BaseInfo::from_config(source.config(), Some(name.into_owned())) })
}

fn by_name(path: &Path) -> Format {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = [
        (".pth.adapter", Format::Litgpt),
        (".pth.adapter_v2", Format::Litgpt),
        (".pth", Format::Original),
        (".ckpt", Format::LitLlama),
    ];
    let format = ends.into_iter().find(|(end, _)| name.ends_with(end));
    format.map_or(Format::LlamaAdapter, |(_, format)| format)
}

/// Refuses to write where a file is, or a folder with something in it. `what` is what the user is to
/// choose another of.
pub fn must_be_free(path: &Path, what: &str) -> Result<(), Error> {
    let taken = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    };
    if !taken {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("{}: something is there already", path.display()),
        hint: Some(format!("choose a {what} where nothing is")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format() {
        assert_eq!(by_name("a/x.pth.adapter".as_ref()), Format::Litgpt);
        assert_eq!(by_name("a/x.pth.adapter_v2".as_ref()), Format::Litgpt);
        assert_eq!(by_name("a/x.pth".as_ref()), Format::Original);
        assert_eq!(by_name("a/x.ckpt".as_ref()), Format::LitLlama);
        assert_eq!(by_name("a/x".as_ref()), Format::LlamaAdapter);
    }
}
