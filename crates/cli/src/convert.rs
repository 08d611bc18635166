//! `llama-adapter convert`: an adapter in one format ─► another format

use std::path::{Path, PathBuf};

use adaption_prompt::files::{self, AdapterReadOptions, Format};
use adaption_prompt::{BaseInfo, GateActivation};

use crate::choice::choice;
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output::note;
use crate::output_path::require_free_path;
use crate::warnings::warn_unknown_settings;

/// Convert an adapter to another format.
///
/// Formats: llama-adapter (our folder, lossless), peft and peft-bin (PEFT folder with safetensors or
/// a pickle), original (.pth of the original release), lit-llama and litgpt. The input format is
/// detected. The converted adapter is equivalent; if the target format cannot represent it, nothing
/// is written without --lossy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The adapter: a folder or a file.
    from: PathBuf,
    /// Output path; must not exist, or be an empty folder.
    to: PathBuf,
    /// Output format [default: inferred from TO: litgpt for .pth.adapter and .pth.adapter_v2,
    /// original for .pth, lit-llama for .ckpt, else llama-adapter].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Gate activation of the original format: tanh (its training code) or plain (its first
    /// inference code).
    #[arg(long, value_enum, default_value_t)]
    original_gates: GateActivationChoice,
    /// Allow a lossy conversion and report what is lost.
    #[arg(long)]
    lossy: bool,
    #[command(flatten)]
    model: ModelArgs,
}

choice! {
    /// The values of `--original-gates`.
    #[derive(Default)]
    enum GateActivationChoice => GateActivation {
        #[default]
        Tanh => Self::Tanh,
        Plain => Self::Identity,
    }
}

pub fn run(args: &Args) -> Result {
    let format = args.format.unwrap_or_else(|| format_from_name(&args.to));
    require_free_path(&args.to, "path")?;
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
    note(&format!(
        "{from} ─► {format}: {} parameters in {}",
        data.n_parameters(),
        args.to.display()
    ));
    for loss in losses {
        note(&format!("lost: {loss}"));
    }
    Ok(())
}

/// The facts about the base model that formats need. The weights are loaded only for the
/// fingerprint, which is kept in our own format.
fn base_info(args: &Args, format: Format) -> Result<BaseInfo> {
    let Some(name) = args.model.name() else { return Ok(BaseInfo::default()) };
    let source = args.model.open_source()?;
    let fingerprint = match format {
        Format::LlamaAdapter => Some(args.model.load()?.llama.fingerprint()?),
        _ => None,
    };
    Ok(BaseInfo { fingerprint, ..BaseInfo::from_config(source.config(), Some(name.into_owned())) })
}

fn format_from_name(path: &Path) -> Format {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_follows_the_file_name() {
        assert_eq!(format_from_name("a/x.pth.adapter".as_ref()), Format::Litgpt);
        assert_eq!(format_from_name("a/x.pth.adapter_v2".as_ref()), Format::Litgpt);
        assert_eq!(format_from_name("a/x.pth".as_ref()), Format::Original);
        assert_eq!(format_from_name("a/x.ckpt".as_ref()), Format::LitLlama);
        assert_eq!(format_from_name("a/x".as_ref()), Format::LlamaAdapter);
    }
}
