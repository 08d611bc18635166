//! Whole files: reading them with a word on what is no such file, writing them so that a failure
//! never costs what was there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempPath;

use crate::error::{Error, Result};
use crate::placeholder::Placeholder;

/// Reads a whole file.
///
/// # Errors
/// [`Error::Placeholder`] for what lies in the place of a file that was never fetched, such as a
/// pointer of Git LFS; [`Error::Read`].
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
                format!("line {line} has bytes that are none")
            }
        };
        Error::Format { path: path.into(), format: "UTF-8", reason }
    })
}

/// Writes a file under a temporary name beside it, then renames it: readers see the old file or
/// the new one, never half of it, however many write it at once.
///
/// # Errors
/// [`Error::Write`]; the temporary file is removed and the old file is as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |temporary| File::create(temporary)?.write_all(bytes))
}

/// As [`write`](write()), with a function that fills the temporary file, or puts another one in its
/// place. The file gets the rights of the one that it replaces, or those of any new file.
///
/// # Errors
/// As [`write`](write()).
pub fn write_with(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let written = || {
        let temporary = beside(path)?;
        let like = fs::metadata(path).or_else(|_none_yet| fs::metadata(&temporary))?;
        make(&temporary)?;
        File::options().write(true).open(&temporary)?.sync_all()?;
        fs::set_permissions(&temporary, like.permissions())?;
        temporary.persist(path).map_err(|error| error.error)
    };
    written().map_err(|source| Error::Write { path: path.into(), source })
}

/// An empty file in the same folder, under a name that nobody else has. It is removed when dropped.
fn beside(path: &Path) -> io::Result<TempPath> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-").suffix(".tmp");
    // Temporary files are for their owner alone; this one is to become an ordinary file.
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
        // A folder in the place of the file makes the rename fail.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "old").unwrap();
        assert!(matches!(write(&path, b"new"), Err(Error::Write { .. })));
        assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_threads_that_write_one_file_leave_the_whole_text_of_one() {
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

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_rights_of_the_old_one_or_of_any_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let [plain, ours] = ["plain", "ours"].map(|name| folder.path().join(name));
        File::create(&plain).unwrap();
        write(&ours, b"new").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o640)).unwrap();
        // As a library does that writes a temporary file of its own.
        let replace = |temporary: &Path| {
            let mut own = tempfile::NamedTempFile::new_in(folder.path())?;
            own.write_all(b"newer")?;
            own.persist(temporary).map(|_file| ()).map_err(|error| error.error)
        };
        write_with(&ours, replace).unwrap();
        assert_eq!((mode(&ours), fs::read(&ours).unwrap()), (0o640, b"newer".to_vec()));
    }

    #[test]
    fn what_is_not_utf_8_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text(&path).unwrap_err().to_string()
        };
        assert!(message(b"one\ntwo \xe9\n").ends_with("line 2 has bytes that are none"));
        assert!(message(b"\xff\xfe{\0").contains("UTF-16"));
    }
}
