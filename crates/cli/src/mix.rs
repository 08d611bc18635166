//! `llama-adapter mix`: adapters and weights ─► one adapter, their weighted sum

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use adaption_prompt::AdapterData;
use adaption_prompt::files::{self, AdapterReadOptions};

use crate::adapters::parse_named_path;
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::output::note;
use crate::output_path::require_free_path;
use crate::warnings::warn_unknown_settings;

/// Merge several adapters of one base model as a weighted sum.
///
/// Each adapter's contribution is scaled by its weight and the results are summed. The output is an
/// ordinary adapter folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An adapter and its weight, such as 0.7*polite or 0.5*NAME=PATH; the weight defaults to 1 and
    /// may be negative.
    #[arg(value_name = "[WEIGHT*][NAME=]PATH", required = true)]
    parts: Vec<String>,
    /// Output folder; must not exist, or must be empty.
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Merge adapters of different base models if their shapes match.
    #[arg(long)]
    force: bool,
}

/// The arguments of the program. In those of `mix`, a space precedes each negative weight: clap takes
/// an argument such as `-1*a` for an option. [`parse_weight`] ignores the space.
pub fn escape_negative_weights(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter().collect::<Vec<_>>();
    if arguments.get(1).is_some_and(|command| command == "mix") {
        for argument in &mut arguments {
            let weight = argument.to_str().and_then(|text| text.split_once('*'));
            if weight.is_some_and(|(weight, _)| weight.trim().parse::<f64>().is_ok()) {
                *argument = [OsString::from(" "), std::mem::take(argument)].into_iter().collect();
            }
        }
    }
    arguments
}

pub fn run(args: &Args) -> Result {
    require_free_path(&args.output, "folder")?;
    let mut parts = Vec::new();
    for text in &args.parts {
        let (weight, text) = parse_weight(text)?;
        let (name, path) = parse_named_path(text)?;
        let data = files::read(&path, &AdapterReadOptions::default())
            .map_err(|error| with_convert_hint(&path, error))?;
        warn_unknown_settings(&path);
        parts.push((name, weight, data));
    }
    check_same_d_model(&parts)?;
    if !args.force {
        check_same_base(&parts)?;
    }
    files::write_mix(&parts, &args.output)?;
    let names = parts.iter().map(|(name, weight, _)| format!("{weight} * {name}"));
    let names = names.collect::<Vec<_>>().join(" + ");
    note(&format!("{names} saved in {}", args.output.display()));
    Ok(())
}

/// `mix` has no --model to complete the facts about an adapter's base model.
fn with_convert_hint(path: &Path, error: adaption_prompt::Error) -> Failure {
    match error {
        adaption_prompt::Error::MissingBaseInfo { .. } => Error::usage_with_hint(
            format!("{}: {error}", path.display()),
            "convert it first: `llama-adapter convert FROM TO --model MODEL`",
        )
        .into(),
        other => other.into(),
    }
}

/// Refuses adapters for base models of different `d_model`.
fn check_same_d_model(parts: &[(String, f64, AdapterData)]) -> Result<(), Error> {
    let d_model = |data: &AdapterData| {
        let prompts = data.prompts.as_ref().map(|prompts| prompts.d_model);
        prompts.or(data.base.sizes.as_ref().map(|sizes| sizes.d_model))
    };
    let mut known = parts.iter().filter_map(|(name, _, data)| Some((name, d_model(data)?)));
    let Some((first, expected)) = known.next() else { return Ok(()) };
    match known.find(|(_, other)| *other != expected) {
        None => Ok(()),
        Some((name, other)) => Err(Error::usage_with_hint(
            format!("{first} has d_model {expected}, {name} has d_model {other}"),
            "merge adapters of one base model",
        )),
    }
}

/// Refuses adapters whose base models have different fingerprints.
fn check_same_base(parts: &[(String, f64, AdapterData)]) -> Result<(), Error> {
    let mut known =
        parts.iter().filter_map(|(name, _, data)| Some((name, data.base.fingerprint.as_ref()?)));
    let Some((first, fingerprint)) = known.next() else { return Ok(()) };
    for (name, other) in known {
        let differences = fingerprint.differences(other);
        if !differences.is_empty() {
            let differences = differences.join("\n  ");
            return Err(Error::usage_with_hint(
                format!("{first} and {name} have different base models\n  {differences}"),
                "--force merges them anyway if the shapes match",
            ));
        }
    }
    Ok(())
}

/// Weight and rest of `0.7*rest`.
fn parse_weight(text: &str) -> Result<(f64, &str), Error> {
    let Some((weight, rest)) = text.split_once('*') else { return Ok((1.0, text)) };
    match weight.trim().parse::<f64>() {
        Ok(weight) if weight.is_finite() => Ok((weight, rest.trim())),
        _ => Err(Error::usage_with_hint(
            format!("invalid weight `{}`", weight.escape_debug()),
            "expected WEIGHT*NAME=PATH, such as 0.7*polite=adapters/polite",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_weight_is_not_an_option() {
        let escaped = |text: &str| escape_negative_weights(text.split(' ').map(OsString::from));
        assert_eq!(escaped("x mix -1*a --output b"), ["x", "mix", " -1*a", "--output", "b"]);
        assert_eq!(escaped("x generate -p -1*2"), ["x", "generate", "-p", "-1*2"]);
        assert_eq!(parse_weight(" -1*a").unwrap(), (-1.0, "a"));
    }

    #[test]
    fn weights_are_parsed() {
        assert_eq!(parse_weight("0.5*a=b").unwrap(), (0.5, "a=b"));
        assert_eq!(parse_weight("-1 * b").unwrap(), (-1.0, "b"));
        assert_eq!(parse_weight("b").unwrap(), (1.0, "b"));
        assert!(parse_weight("x*b").is_err());
    }
}
