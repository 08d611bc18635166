//! The folder that fetched models are cached in.

use std::env;
use std::path::PathBuf;

use crate::error::Error;
use crate::known_models::KnownModel;

/// `$LLAMA_ADAPTER_CACHE`, or `llama-adapter` in the system's cache folder.
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

/// The cached file of a model, if the model has been fetched.
pub fn fetched_path(model: &KnownModel) -> Result<PathBuf, Error> {
    let path = model.cached_path(&cache_folder()?);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.len() == model.size => Ok(path),
        _ => Err(Error::NotFetched { name: model.name, path }),
    }
}
