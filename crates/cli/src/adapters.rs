//! what `--adapter` and `--use` say ─► adapters by name

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSet, AnyAdapter, files};

use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::model::Base;
use crate::output;

/// Word for the base model where an adapter's name could stand.
pub const NO_ADAPTER: &str = "none";

/// Which adapters, and where they are.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Adapters")]
pub struct AdapterArgs {
    /// An adapter, or a mix of some: a folder, or a file of the original release, lit-llama or
    /// litgpt. Without it the base model is used. May be given several times; NAME is how to call
    /// it, by default the name of the folder.
    #[arg(long = "adapter", value_name = "[NAME=]PATH")]
    paths: Vec<OsString>,
    /// Use adapters on a model they were not made for, if only their sizes fit.
    #[arg(long)]
    force: bool,
}

impl AdapterArgs {
    /// Whether any was given.
    pub fn any(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Reads them all. The first one is active.
    pub fn load<'a>(&self, base: &'a Base) -> Result<AdapterSet<'a>> {
        let mut adapters = AdapterSet::new(&base.llama);
        let mut first = None;
        for text in &self.paths {
            let (name, path) = named(text)?;
            adapters.add(&name, self.read(base, &path)?)?;
            first.get_or_insert(name);
        }
        if let Some(first) = first {
            adapters.activate(&first)?;
        }
        Ok(adapters)
    }

    fn read(&self, base: &Base, path: &Path) -> Result<AnyAdapter> {
        let Base { llama, device, .. } = base;
        let loaded = if self.force {
            AnyAdapter::load_unchecked(path, llama, device)
        } else {
            AnyAdapter::load(path, llama, device)
        };
        let adapter = loaded.map_err(|error| misfit(path, error))?;
        warn_unknown_settings(path);
        Ok(adapter)
    }
}

/// Says on stderr which settings of an adapter had no effect because nobody here knows them.
pub fn warn_unknown_settings(path: &Path) {
    // The adapter was read: whatever is wrong with its files has been said.
    if let Ok(names) = files::unknown_settings(path)
        && let Some(words) = unknown(&names)
    {
        output::note(&format!("{}: {words}", path.display()));
    }
}

/// What to say of settings that nobody here knows; nothing where there are none.
pub fn unknown(names: &[String]) -> Option<String> {
    const TOLD: usize = 4;
    let first = names.iter().take(TOLD).map(|name| name.escape_debug().to_string());
    let more = if names.len() > TOLD { ", ..." } else { "" };
    let list = first.collect::<Vec<_>>().join(", ") + more;
    match names.len() {
        0 => None,
        1 => Some(format!("1 setting is not known here and has no effect: {list}")),
        count => Some(format!("{count} settings are not known here and have no effect: {list}")),
    }
}

/// Name and path of `NAME=PATH`, or of a path that goes by its own last part.
pub fn named(text: impl AsRef<OsStr>) -> Result<(String, PathBuf), Error> {
    let path = PathBuf::from(text.as_ref());
    let lossy = path.to_string_lossy();
    let own = path.file_name().map_or(lossy, |name| name.to_string_lossy()).into_owned();
    // What is no UTF-8 can only be a path.
    let Some(text) = path.to_str() else { return Ok((own, path)) };
    // A path with an equals sign in it is a path if it is there.
    if let Some((name, path)) = text.split_once('=').filter(|_| !Path::new(text).exists()) {
        if name.is_empty() || name == NO_ADAPTER || path.is_empty() {
            return Err(Error::Usage {
                message: format!("`{}` is not NAME=PATH", text.escape_debug()),
                hint: Some(format!("any name but `{NO_ADAPTER}`, which stands for the base model")),
            });
        }
        return Ok((name.into(), path.into()));
    }
    Ok((own, path))
}

/// The library's hints are for those who make an adapter; here one is only used.
fn misfit(path: &Path, error: adaption_prompt::Error) -> Failure {
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
    fn settings_that_nobody_knows_are_counted() {
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!(unknown(&names[..0]), None);
        let one = unknown(&names[..1]).unwrap();
        assert_eq!(one, "1 setting is not known here and has no effect: a");
        let five = unknown(&names).unwrap();
        assert_eq!(five, "5 settings are not known here and have no effect: a, b, c, d, ...");
    }

    #[test]
    fn a_path_goes_by_its_last_part_or_by_the_name_it_is_given() {
        assert_eq!(named("a/b/polite").unwrap(), ("polite".into(), "a/b/polite".into()));
        assert_eq!(named("x=a/b").unwrap(), ("x".into(), "a/b".into()));
        assert!(named("none=a/b").unwrap_err().to_string().contains("not NAME=PATH"));
        assert!(named("=a").is_err());
    }
}
