//! `llama-adapter mix`: several adapters, each with a weight ─► one that can be used as any other

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use adaption_prompt::files::{self, AdapterReadOptions};

use crate::adapters::{named, warn_unknown_settings};
use crate::convert::must_be_free;
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::output::note;

/// Put several adapters of one model together, each with a weight.
///
/// What the adapters add to the model is multiplied by their weights and added. The result is used
/// as any adapter is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An adapter and its weight, such as 0.7*polite or 0.5*NAME=PATH; the weight is 1 if none is
    /// given, and may be negative.
    #[arg(value_name = "[WEIGHT*][NAME=]PATH", required = true)]
    parts: Vec<String>,
    /// Folder for the mix; nothing may be there yet.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Mix adapters that were made for different models, if only their sizes fit.
    #[arg(long)]
    force: bool,
}

/// The words of the command line, where those of `mix` that begin with a negative weight no longer
/// look like options: clap takes only whole words for numbers. [`weighted`] does not mind a space.
pub fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter().collect::<Vec<_>>();
    if words.get(1).is_some_and(|verb| verb == "mix") {
        for word in &mut words {
            let weight = word.to_str().and_then(|text| text.split_once('*'));
            if weight.is_some_and(|(weight, _)| weight.trim().parse::<f64>().is_ok()) {
                *word = [OsString::from(" "), std::mem::take(word)].into_iter().collect();
            }
        }
    }
    words
}

pub fn run(args: &Args) -> Result {
    must_be_free(&args.output, "folder")?;
    let mut parts = Vec::new();
    for text in &args.parts {
        let (weight, text) = weighted(text)?;
        let (name, path) = named(text)?;
        let data = files::read(&path, &AdapterReadOptions::default())
            .map_err(|error| alone(&path, error))?;
        warn_unknown_settings(&path);
        parts.push((name, weight, data));
    }
    same_width(&parts)?;
    if !args.force {
        same_base(&parts)?;
    }
    files::write_mix(&parts, &args.output)?;
    let names = parts.iter().map(|(name, weight, _)| format!("{weight} * {name}"));
    let names = names.collect::<Vec<_>>().join(" + ");
    note(&format!("{names} in {}", args.output.display()));
    Ok(())
}

/// Here no model can be given that would say more about an adapter.
fn alone(path: &Path, error: adaption_prompt::Error) -> Failure {
    match error {
        adaption_prompt::Error::MissingBaseInfo { .. } => Error::Usage {
            message: format!("{}: {error}", path.display()),
            hint: Some("`llama-adapter convert FROM TO --model MODEL` makes one that does".into()),
        }
        .into(),
        other => other.into(),
    }
}

/// Refuses adapters that no one model could have.
fn same_width(parts: &[(String, f64, adaption_prompt::AdapterData)]) -> Result<(), Error> {
    let width = |data: &adaption_prompt::AdapterData| {
        let prompts = data.prompts.as_ref().map(|prompts| prompts.d_model);
        prompts.or(data.base.sizes.as_ref().map(|sizes| sizes.d_model))
    };
    let mut widths = parts.iter().filter_map(|(name, _, data)| Some((name, width(data)?)));
    let Some((first, width)) = widths.next() else { return Ok(()) };
    match widths.find(|(_, other)| *other != width) {
        None => Ok(()),
        Some((name, other)) => Err(Error::Usage {
            message: format!(
                "{first} is for a model of width {width}, {name} for one of width {other}"
            ),
            hint: Some("mix adapters of one model".into()),
        }),
    }
}

fn same_base(parts: &[(String, f64, adaption_prompt::AdapterData)]) -> Result {
    let known = parts.iter().filter_map(|(name, _, data)| {
        data.base.fingerprint.as_ref().map(|fingerprint| (name, fingerprint))
    });
    let mut known = known;
    let Some((first, fingerprint)) = known.next() else { return Ok(()) };
    for (name, other) in known {
        let differences = fingerprint.differences(other);
        if !differences.is_empty() {
            return Err(Error::Usage {
                message: format!(
                    "{first} and {name} were made for different models\n  {}",
                    differences.join("\n  ")
                ),
                hint: Some("--force mixes them all the same, if only their sizes fit".into()),
            }
            .into());
        }
    }
    Ok(())
}

/// Weight and rest of `0.7*rest`.
fn weighted(text: &str) -> Result<(f64, &str), Error> {
    let Some((weight, rest)) = text.split_once('*') else { return Ok((1.0, text)) };
    match weight.trim().parse::<f64>() {
        Ok(weight) if weight.is_finite() => Ok((weight, rest.trim())),
        _ => Err(Error::Usage {
            message: format!("`{}` is no weight", weight.escape_debug()),
            hint: Some("a part of a mix is written as 0.7*NAME=PATH".into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_weight_is_no_option() {
        let found = |text: &str| words(text.split(' ').map(OsString::from));
        assert_eq!(found("x mix -1*a --output b"), ["x", "mix", " -1*a", "--output", "b"]);
        assert_eq!(found("x generate -p -1*2"), ["x", "generate", "-p", "-1*2"]);
        assert_eq!(weighted(" -1*a").unwrap(), (-1.0, "a"));
    }

    #[test]
    fn a_weight_stands_before_a_star() {
        assert_eq!(weighted("0.5*a=b").unwrap(), (0.5, "a=b"));
        assert_eq!(weighted("-1 * b").unwrap(), (-1.0, "b"));
        assert_eq!(weighted("b").unwrap(), (1.0, "b"));
        assert!(weighted("x*b").is_err());
    }
}
