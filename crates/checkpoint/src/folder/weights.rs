//! A folder ─► its weight files.

use std::path::Path;

use super::index::{WEIGHT_FILES, is_index, shard_names};
use super::not_a_model::folder_error;
use crate::error::{Error, Result};
use crate::weight_files::{WeightFile, WeightFiles};

/// Opens the weights of a folder: a single file, or the shards that its index lists.
///
/// # Errors
/// [`Error::NotAModel`](crate::Error::NotAModel) without weights and for a missing shard,
/// [`Error::AdapterAsModel`](crate::Error::AdapterAsModel) for the folder of an adapter,
/// [`Error::Format`](crate::Error::Format) for an invalid index or file.
pub fn open_weights(folder: &Path) -> Result<WeightFiles> {
    let Some(name) = WEIGHT_FILES.iter().copied().find(|name| folder.join(name).exists()) else {
        return Err(folder_error(folder));
    };
    let path = folder.join(name);
    let names = if is_index(name) { shard_names(&path)? } else { [name.to_owned()].into() };
    if let Some(missing) = names.iter().find(|name| !folder.join(name).exists()) {
        return Err(Error::not_a_model(
            folder,
            format!("{missing} is missing, which {name} names"),
        ));
    }
    let files = names.iter().map(|name| WeightFile::open(folder.join(name)));
    WeightFiles::new(folder, files.collect::<Result<_>>()?)
}
