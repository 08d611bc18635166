//! Rejected records ─► a file of JSON lines.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file of rejected records, one per line: where each was, why it was rejected, and what it was. It appears
/// when it is [finished](Self::finish); without rejected records there is none.
#[derive(Debug)]
pub struct RejectFile {
    path: PathBuf,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    writer: Option<BufWriter<NamedTempFile>>,
    count: usize,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Rejected {
    file: String,
    location: String,
    reason: String,
    /// Its value, or its text if it could not be parsed.
    #[serde(default)]
    record: Value,
}

impl RejectFile {
    /// A file at `path`. One from an earlier call is replaced.
    ///
    /// # Errors
    /// [`Error::WouldOverwrite`] if there is another file.
    pub fn new(path: &Path) -> Result<Self> {
        if path.exists() && !is_reject_file(path) {
            return Err(Error::WouldOverwrite { path: path.into() });
        }
        Ok(Self { path: path.into(), state: RefCell::default() })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a rejected record with its value, if it could be parsed. Any error but one about a single record is
    /// returned.
    ///
    /// # Errors
    /// `error` itself; [`Error::Write`].
    pub fn reject(&self, error: Error, value: Option<&Value>) -> Result<()> {
        let Error::Record { path, location, reason, text, .. } = error else { return Err(error) };
        let record = value.cloned().or(text.map(Value::from)).unwrap_or_default();
        let file = path.to_string_lossy().into_owned();
        let line = serde_json::to_string(&Rejected { file, location, reason, record });
        let line = line.expect("plain JSON");
        let write_error = |source| Error::Write { path: self.path.clone(), source };
        let mut state = self.state.borrow_mut();
        state.count += 1;
        if state.writer.is_none() {
            state.writer = Some(BufWriter::new(self.temporary().map_err(write_error)?));
        }
        let writer = state.writer.as_mut().expect("set above");
        writeln!(writer, "{line}").map_err(write_error)
    }

    /// Number of rejected records.
    pub fn count(&self) -> usize {
        self.state.borrow().count
    }

    /// Moves the file to its path; returns whether there is one. An old file without new records is removed.
    ///
    /// # Errors
    /// [`Error::Write`]
    pub fn finish(&self) -> Result<bool> {
        let write_error = |source| Error::Write { path: self.path.clone(), source };
        let Some(writer) = self.state.borrow_mut().writer.take() else {
            if self.path.exists() {
                std::fs::remove_file(&self.path).map_err(write_error)?;
            }
            return Ok(false);
        };
        let file = writer.into_inner().map_err(|error| write_error(error.into_error()))?;
        file.as_file().sync_all().map_err(write_error)?;
        file.persist(&self.path).map_err(|error| write_error(error.error))?;
        Ok(true)
    }

    fn temporary(&self) -> std::io::Result<NamedTempFile> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".writing-").suffix(".tmp");
        // The default permissions of temporary files are for the owner only.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder.unwrap_or(Path::new(".")))
    }
}

/// Whether a file is empty or begins with a rejected record.
fn is_reject_file(path: &Path) -> bool {
    const MAX_LINE: u64 = 64 << 20;
    let first = || {
        let mut line = String::new();
        BufReader::new(File::open(path)?).take(MAX_LINE).read_line(&mut line)?;
        Ok::<_, std::io::Error>(line)
    };
    first().is_ok_and(|line| line.is_empty() || serde_json::from_str::<Rejected>(&line).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_error(text: Option<&str>) -> Error {
        Error::Record {
            path: "a.jsonl".into(),
            location: "line 3".into(),
            reason: "no".into(),
            format_hint: "",
            text: text.map(str::to_owned),
        }
    }

    #[test]
    fn rejected_records_are_written_with_their_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.jsonl");
        let file = RejectFile::new(&path).unwrap();
        file.reject(record_error(Some("{oops")), None).unwrap();
        file.reject(record_error(None), Some(&serde_json::json!({"a": 1}))).unwrap();
        assert!(!path.exists());
        assert!(file.finish().unwrap());
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"file\":\"a.jsonl\",\"location\":\"line 3\",\"reason\":\"no\",\"record\":\"{oops\"}\n\
             {\"file\":\"a.jsonl\",\"location\":\"line 3\",\"reason\":\"no\",\"record\":{\"a\":1}}\n"
        );
        // The next run has none.
        let next = RejectFile::new(&path).unwrap();
        assert!(!next.finish().unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn an_error_about_the_whole_file_is_not_rejected() {
        let file = RejectFile::new(Path::new("/no/where")).unwrap();
        let error = Error::NoColumn { path: "a".into(), column: "b".into(), available: "c".into() };
        assert!(matches!(file.reject(error, None), Err(Error::NoColumn { .. })));
        assert_eq!(file.count(), 0);
    }

    #[test]
    fn other_files_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, "{\"instruction\": \"a\"}\n").unwrap();
        assert!(matches!(RejectFile::new(&path), Err(Error::WouldOverwrite { .. })));
    }
}
