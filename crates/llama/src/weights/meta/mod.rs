//! Meta's own folder: `params.json`, `consolidated.00.pth` and further shards, `tokenizer.model`.

mod params;
mod shards;

use std::path::{Path, PathBuf};

use checkpoint::folder::PARAMS_FILE;
use checkpoint::torch::TorchFile;
use checkpoint::{ByteSource, files};
pub use params::{WeightSizes, parse_params};
pub use shards::MetaSource;

use crate::config::LlamaConfig;
use crate::error::Result;

/// Reads the config of a folder, which takes the heads of its shards too.
///
/// # Errors
/// [`checkpoint::Error::NotAModel`] where shards are missing, [`checkpoint::Error::Format`] for broken files or shards
/// that do not fit together, [`crate::Error::Config`], [`checkpoint::Error::Read`].
pub fn open(folder: &Path) -> Result<(LlamaConfig, MetaSource)> {
    let path = folder.join(PARAMS_FILE);
    let text = files::read_text(&path)?;
    let files = shard_paths(folder)?
        .into_iter()
        .map(|path| TorchFile::open(ByteSource::open(path)?))
        .collect::<checkpoint::Result<Vec<_>>>()?;
    let source = MetaSource::new(folder, files)?;
    let config = parse_params(&path, &text, source.sizes())?;
    let source = source.with_heads(&config)?;
    Ok((config, source))
}

/// Whether a folder has shards, be it not all of them.
pub(crate) fn has_shards(folder: &Path) -> Result<bool> {
    Ok(!numbered_shards(folder)?.is_empty())
}

/// The shards that are there, by number.
fn numbered_shards(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(checkpoint::Error::read(folder))?;
    let number = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        let number = name.strip_prefix("consolidated.")?.strip_suffix(".pth")?;
        Some((number.parse::<usize>().ok()?, path))
    };
    let mut shards = entries.filter_map(|entry| number(entry.ok()?.path())).collect::<Vec<_>>();
    shards.sort();
    Ok(shards)
}

/// The shards by number, which must be all from 0.
fn shard_paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let shards = numbered_shards(folder)?;
    let missing = (0..=shards.len()).find(|&n| shards.get(n).is_none_or(|shard| shard.0 != n));
    match missing {
        Some(n) if n == shards.len() && n > 0 => Ok(shards.into_iter().map(|s| s.1).collect()),
        missing => {
            let reason = format!("consolidated.{:02}.pth is missing", missing.unwrap_or_default());
            Err(checkpoint::Error::not_a_model(folder, reason).into())
        }
    }
}
