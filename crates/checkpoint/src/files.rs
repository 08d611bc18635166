//! Reading whole files, writing them atomically, and locking them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use diagnostic::Placeholder;
use tempfile::TempPath;

use crate::error::{Error, Result};

/// Reads a whole file.
///
/// # Errors
/// [`Error::Placeholder`] for a file that was never downloaded, such as a Git LFS pointer;
/// [`Error::Read`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::read(path))?;
    match Placeholder::of(&bytes) {
        Some(found) => Err(Error::Placeholder { path: path.into(), found }),
        None => Ok(bytes),
    }
}

/// Reads a whole file as UTF-8.
///
/// # Errors
/// As [`read`], and [`Error::Format`] with the line that is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        let reason = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16: save it as UTF-8".to_owned(),
            bytes => {
                let valid = &bytes[..error.utf8_error().valid_up_to()];
                let line = valid.split(|&byte| byte == b'\n').count();
                format!("line {line} is not UTF-8")
            }
        };
        Error::Format { path: path.into(), format: "UTF-8", reason }
    })
}

/// Writes a temporary file in the same folder, then renames it: readers see the old file or the new one, also
/// with concurrent writers.
///
/// # Errors
/// [`Error::Write`]; the temporary file is removed and the old file is unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| File::create(temporary)?.write_all(bytes))
}

/// As [`write`](write()), with a function that fills or replaces the temporary file. The file gets the
/// permissions of the one it replaces, or those of a new file.
///
/// # Errors
/// As [`write`](write()).
pub fn write_with(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let written = || {
        let temporary = temporary_file(path)?;
        let metadata = fs::metadata(path).or_else(|_none_yet| fs::metadata(&temporary))?;
        make(&temporary)?;
        File::options().write(true).open(&temporary)?.sync_all()?;
        fs::set_permissions(&temporary, metadata.permissions())?;
        temporary.persist(path).map_err(|error| error.error)
    };
    written().map_err(|source| Error::Write { path: path.into(), source })
}

/// A lock file that this process holds. It is unlocked when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct FileLock(#[expect(dead_code, reason = "held open")] Option<File>);

/// Creates and locks a file; `None` if another process has locked it. On a file system without locks,
/// everybody gets it. The file stays when it is unlocked, because another process may be about to lock it.
///
/// # Errors
/// [`Error::Write`]
pub fn try_lock(path: &Path) -> Result<Option<FileLock>> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path);
    let file = file.map_err(|source| Error::Write { path: path.into(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FileLock(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(_)) => Ok(Some(FileLock(None))),
    }
}

/// The names of temporary files begin and end with these.
const TEMPORARY: (&str, &str) = (".writing-", ".tmp");

/// Whether a file or folder of this name is temporary: a process was killed while it was writing it.
pub fn is_temporary(name: &OsStr) -> bool {
    let (prefix, suffix) = TEMPORARY;
    name.to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(suffix))
}

/// Removes the [temporary](is_temporary) files and folders of killed processes from a folder. Nobody may be
/// writing into the folder.
pub fn remove_temporary(folder: &Path) {
    // What cannot be removed does no harm.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

/// An empty file with a unique name in the same folder. It is removed when dropped.
fn temporary_file(path: &Path) -> io::Result<TempPath> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    // The default permissions of temporary files are for the owner only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(builder.tempfile_in(folder.unwrap_or(Path::new(".")))?.into_temp_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // The rename fails: the path is a folder.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "old").unwrap();
        assert!(matches!(write(&path, b"new"), Err(Error::Write { .. })));
        assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_of_killed_writers_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let killed = temporary_file(&folder.path().join("file")).unwrap().keep().unwrap();
        fs::create_dir(folder.path().join(".writing-folder.tmp")).unwrap();
        for name in ["file", ".writing-notes", "notes.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_temporary(folder.path());
        assert!(!killed.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn concurrent_writers_leave_the_contents_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let texts = ["a".repeat(100_000), "b".repeat(70_000)];
        let (path, all) = (&path, &texts);
        std::thread::scope(|scope| {
            for text in all {
                scope.spawn(move || {
                    for _ in 0..50 {
                        write(path, text.as_bytes()).unwrap();
                        let found = fs::read_to_string(path).unwrap();
                        assert!(all.contains(&found), "{} characters", found.len());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_locked_file_is_free_when_the_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_the_old_one_or_of_a_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let [plain, ours] = ["plain", "ours"].map(|name| folder.path().join(name));
        File::create(&plain).unwrap();
        write(&ours, b"new").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o640)).unwrap();
        // Like a library that writes its own temporary file.
        let replace = |temporary: &Path| {
            let mut own = tempfile::NamedTempFile::new_in(folder.path())?;
            own.write_all(b"newer")?;
            own.persist(temporary).map(|_file| ()).map_err(|error| error.error)
        };
        write_with(&ours, replace).unwrap();
        assert_eq!((mode(&ours), fs::read(&ours).unwrap()), (0o640, b"newer".to_vec()));
    }

    #[test]
    fn invalid_utf_8_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path).unwrap_err().to_string()
        };
        assert!(message(b"one\ntwo \xe9\n").ends_with("line 2 is not UTF-8"));
        assert!(message(b"\xff\xfe{\0").contains("UTF-16"));
    }
}
