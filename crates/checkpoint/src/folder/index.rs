//! Names of weight files, and the index of a sharded checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files;

/// Names of a folder's weight files, in order of preference. As in transformers, safetensors come before
/// PyTorch files, and a single file before shards.
pub const WEIGHT_FILES: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Whether a folder has weights that [`open_weights`](super::open_weights) opens.
pub fn has_weights(folder: &Path) -> bool {
    WEIGHT_FILES.iter().any(|name| folder.join(name).exists())
}

/// Whether one of [`WEIGHT_FILES`] is an index of shards.
pub fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// File names of the shards that an index lists.
///
/// # Errors
/// [`Error::Read`], and as [`parse_index`].
pub fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    parse_index(index, &files::read_text(index)?)
}

/// As [`shard_names`], from the text of the index.
///
/// # Errors
/// [`Error::Format`], also for a name that could lead out of the folder.
pub fn parse_index(path: &Path, text: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index = serde_json::from_str(text).map_err(|error| Error::json(path, &error))?;
    let format_error =
        |reason: String| Error::Format { path: path.into(), format: "index of weights", reason };
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let leads_out = |name: &str| name.contains(['/', '\\']) || name.starts_with('.');
    if let Some(name) = names.iter().find(|name| leads_out(name) || name.is_empty()) {
        return Err(format_error(format!("`{}` is not a file name", name.escape_debug())));
    }
    if names.is_empty() {
        return Err(format_error("its weight_map names no file".into()));
    }
    Ok(names)
}
