//! The cache layout of the Hugging Face Hub.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The snapshot in a repository folder of the Hugging Face Hub's cache, such as `models--owner--name`: the
/// one that `refs/main` names, or the only one. `None` for any other folder.
///
/// # Errors
/// [`Error::NotAModel`] if there is no snapshot, or several and no `refs/main`.
pub fn hub_cache_snapshot(folder: &Path) -> Result<Option<PathBuf>> {
    let snapshots = folder.join("snapshots");
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_cache = name.starts_with("models--") || folder.join("refs").is_dir();
    if folder.join("config.json").exists() || !(is_cache && snapshots.is_dir()) {
        return Ok(None);
    }
    if let Ok(main) = std::fs::read_to_string(folder.join("refs").join("main")) {
        let main = main.trim();
        let is_name = !main.is_empty() && main.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_name && snapshots.join(main).is_dir() {
            return Ok(Some(snapshots.join(main)));
        }
    }
    let entries = std::fs::read_dir(&snapshots).map_err(Error::read(&snapshots))?;
    // File browsers leave files such as .DS_Store.
    let mut all = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir());
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(Some(only)),
        (None, _) => Err(Error::not_a_model(folder, "the cache has no snapshot of it")),
        _ => {
            let reason = "the cache has several snapshots of it: give one of those in `snapshots`";
            Err(Error::not_a_model(folder, reason))
        }
    }
}
