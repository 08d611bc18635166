//! Whether an adapter's files are those that were read.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::source::AdapterLocation;

/// Names, lengths and times of an adapter's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(PathBuf, u64, Option<SystemTime>)>);

/// Files that are looked at; an adapter's folder has a handful.
const MOST_FILES: usize = 256;

impl Stamp {
    /// The files as they are now. What is not there has no entry.
    pub(crate) fn of(location: &AdapterLocation) -> Self {
        let mut files = Vec::new();
        if let AdapterLocation::Path(path) = location {
            // A mix has its parts in subfolders.
            add(path, 2, &mut files);
        }
        files.sort();
        Self(files)
    }
}

fn add(path: &Path, depth: usize, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    let Ok(metadata) = path.metadata() else { return };
    if !metadata.is_dir() {
        files.push((path.into(), metadata.len(), modified(&metadata)));
    } else if depth > 0
        && let Ok(entries) = path.read_dir()
    {
        for entry in entries.flatten() {
            if files.len() < MOST_FILES {
                add(&entry.path(), depth - 1, files);
            }
        }
    }
}

fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_stamp_changes_with_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let location = AdapterLocation::Path(folder.path().into());
        let now = || Stamp::of(&location);
        let file = folder.path().join("a");
        let mut seen = vec![now()];
        fs::write(&file, "1").unwrap();
        seen.push(now());
        assert_eq!(now(), seen[1]);
        fs::write(&file, "22").unwrap();
        seen.push(now());
        let touched = fs::File::options().write(true).open(&file).unwrap();
        touched.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        seen.push(now());
        fs::create_dir(folder.path().join("part")).unwrap();
        fs::write(folder.path().join("part/b"), "1").unwrap();
        seen.push(now());
        fs::remove_file(&file).unwrap();
        seen.push(now());
        for (index, stamp) in seen.iter().enumerate() {
            assert_eq!(seen.iter().position(|other| other == stamp), Some(index));
        }
    }
}
