//! Checks and chooses the paths that results are written to.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Refuses a path that is a file or a folder with contents. `what` is "path" or "folder", for the
/// hint.
pub fn require_free_path(path: &Path, what: &str) -> Result<(), Error> {
    let occupied = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.exists(),
    };
    if !occupied {
        return Ok(());
    }
    let message = format!("{}: already exists", path.display());
    Err(Error::usage_with_hint(message, format!("choose a new {what}")))
}

/// `adapters/NAME-N` with the first N that is not used.
pub fn next_output_folder(model_name: &str) -> PathBuf {
    let name = Path::new(model_name).file_name().unwrap_or("model".as_ref()).to_string_lossy();
    let name = name.strip_suffix(".gguf").unwrap_or(&name);
    let folder = |n: usize| Path::new("adapters").join(format!("{name}-{n}"));
    (1..=usize::MAX).map(folder).find(|folder| !folder.exists()).expect("some number is free")
}
