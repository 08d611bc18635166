//! `--adapter` and `--force` ─► loaded adapters by name

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use adaption_prompt::files::read_prompt_format;
use adaption_prompt::{AdapterSet, AnyAdapter};
use text::PromptFormat;

use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::model::BaseModel;
use crate::warnings::warn_unknown_settings;

/// Stands for the base model in place of an adapter's name.
pub const NO_ADAPTER: &str = "none";

/// The adapters and their paths.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Adapters")]
pub struct AdapterArgs {
    /// An adapter or a mix: a folder, or a file of the original release, lit-llama or LitGPT.
    /// Without it the base model is used. Repeatable; NAME defaults to the folder name.
    #[arg(long = "adapter", value_name = "[NAME=]PATH")]
    paths: Vec<OsString>,
    /// Use adapters on a different base model if the shapes match.
    #[arg(long)]
    force: bool,
}

impl AdapterArgs {
    /// Loads all adapters. The first one is active.
    pub fn load<'a>(&self, base: &'a BaseModel) -> Result<AdapterSet<'a>> {
        let mut adapters = AdapterSet::new(&base.llama);
        let mut first = None;
        for text in &self.paths {
            let (name, path) = parse_named_path(text)?;
            adapters.add(&name, self.read(base, &path)?)?;
            first.get_or_insert(name);
        }
        if let Some(first) = first {
            adapters.activate(&first)?;
        }
        Ok(adapters)
    }

    /// The name of the first adapter.
    pub fn first_name(&self) -> Result<Option<String>> {
        let first = self.paths.first().map(parse_named_path).transpose()?;
        Ok(first.map(|(name, _)| name))
    }

    /// The prompt formats that the adapters' folders name, by the adapters' names.
    pub fn prompt_formats(&self) -> Result<BTreeMap<String, PromptFormat>> {
        let mut formats = BTreeMap::new();
        for text in &self.paths {
            let (name, path) = parse_named_path(text)?;
            if let Some(format) = read_prompt_format(&path)? {
                formats.insert(name, format);
            }
        }
        Ok(formats)
    }

    fn read(&self, base: &BaseModel, path: &Path) -> Result<AnyAdapter> {
        let BaseModel { llama, device, .. } = base;
        let loaded = if self.force {
            AnyAdapter::load_unchecked(path, llama, device)
        } else {
            AnyAdapter::load(path, llama, device)
        };
        let adapter = loaded.map_err(|error| adapter_mismatch(path, error))?;
        warn_unknown_settings(path);
        Ok(adapter)
    }
}

/// Name and path of `NAME=PATH`, or of a path, which is named by its last component.
pub fn parse_named_path(text: impl AsRef<OsStr>) -> Result<(String, PathBuf), Error> {
    let path = PathBuf::from(text.as_ref());
    let lossy = path.to_string_lossy();
    let file_name = path.file_name().map_or(lossy, |name| name.to_string_lossy()).into_owned();
    // Text that is not UTF-8 can only be a path.
    let Some(text) = path.to_str() else { return Ok((file_name, path)) };
    // A path that exists may contain an equals sign.
    if let Some((name, path)) = text.split_once('=').filter(|_| !Path::new(text).exists()) {
        if name.is_empty() || name == NO_ADAPTER || path.is_empty() {
            return Err(Error::usage_with_hint(
                format!("`{}` is not NAME=PATH", text.escape_debug()),
                format!("use any name except `{NO_ADAPTER}`, which stands for the base model"),
            ));
        }
        return Ok((name.into(), path.into()));
    }
    Ok((file_name, path))
}

/// The library's hints for these errors are about creating an adapter; here one is used.
fn adapter_mismatch(path: &Path, error: adaption_prompt::Error) -> Failure {
    use adaption_prompt::Error as E;
    match error {
        source @ (E::TooManyLayers { .. }
        | E::NoSuchLayer { .. }
        | E::TensorMismatch { .. }
        | E::Config { .. }) => {
            Error::AdapterMismatch { path: path.into(), source: source.into() }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_path_is_parsed() {
        let parse = |text: &str| parse_named_path(text);
        assert_eq!(parse("a/b/polite").unwrap(), ("polite".into(), "a/b/polite".into()));
        assert_eq!(parse("x=a/b").unwrap(), ("x".into(), "a/b".into()));
        assert!(parse("none=a/b").unwrap_err().to_string().contains("not NAME=PATH"));
        assert!(parse("=a").is_err());
    }
}
