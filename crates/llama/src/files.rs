//! Writing files so that a failure never costs what was there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file under a temporary name beside it, then renames it: readers see the old file or
/// the new one, never half of it.
///
/// # Errors
/// [`Error::Write`]; the temporary file is removed and the old file is as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| File::create(temporary)?.write_all(bytes))
}

/// As [`write`](write()), with a function that makes the temporary file.
pub(crate) fn write_with(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = make(&temporary)
        .and_then(|()| File::options().write(true).open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // The write failed already; that the leftover could not be removed adds nothing.
        let _ = fs::remove_file(&temporary);
        Error::Write { path: path.into(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the place of the file makes the rename fail.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "old").unwrap();
        assert!(matches!(write(&path, b"new"), Err(Error::Write { .. })));
        assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
