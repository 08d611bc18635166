//! OUT.jsonl: what earlier runs wrote ─► names to leave out; responses ─► appended lines
//!
//! A line is written whole and flushed before the next, so a run that is killed loses at most the last one:
//! a line without its end is removed by the next run.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use checkpoint::files::{self, FileLock};
use serve::openai::BatchResponse;

use crate::error::Error;

/// The results of a batch. Only one run at a time may have it.
pub struct Responses {
    path: PathBuf,
    file: File,
    answered: HashSet<String>,
    failed: usize,
    _lock: FileLock,
}

impl Responses {
    /// Opens or creates the file. With `retry`, the lines of failed requests are removed.
    pub fn open(path: &Path, retry: bool) -> Result<Self, Error> {
        let mut lock = OsString::from(path);
        lock.push(".lock");
        let Some(lock) = files::try_lock(lock.as_ref())? else {
            return Err(Error::BatchLocked { path: path.into() });
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(path).map_err(Error::file(path, "write"))?;
        let found = Found::read(path, &file)?;
        if retry && found.failed > 0 {
            keep_successes(path)?;
            file = options.open(path).map_err(Error::file(path, "write"))?;
            let found = Found::read(path, &file)?;
            return Ok(Self {
                path: path.into(),
                file,
                answered: found.answered,
                failed: 0,
                _lock: lock,
            });
        }
        file.set_len(found.whole).map_err(Error::file(path, "write"))?;
        let Found { answered, failed, .. } = found;
        Ok(Self { path: path.into(), file, answered, failed, _lock: lock })
    }

    /// Names of the requests that have a response.
    pub fn answered(&self) -> &HashSet<String> {
        &self.answered
    }

    /// Responses that are errors.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Appends a response.
    pub fn append(&mut self, response: &BatchResponse) -> Result<(), Error> {
        self.failed += usize::from(!response.is_success());
        let line = serde_json::to_string(response).expect("plain JSON") + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(Error::file(&self.path, "write"))
    }
}

/// What a file of results holds.
struct Found {
    answered: HashSet<String>,
    failed: usize,
    /// Bytes up to the end of the last whole line.
    whole: u64,
}

impl Found {
    fn read(path: &Path, mut file: &File) -> Result<Self, Error> {
        file.rewind().map_err(Error::file(path, "read"))?;
        let mut found = Self { answered: HashSet::new(), failed: 0, whole: 0 };
        for_each_line(path, file, |line, response| {
            found.whole += line.len() as u64;
            found.failed += usize::from(!response.is_success());
            found.answered.insert(response.custom_id);
            Ok(())
        })?;
        Ok(found)
    }
}

/// Calls `f` with each whole line and what it holds.
fn for_each_line(
    path: &Path,
    file: &File,
    mut f: impl FnMut(&[u8], BatchResponse) -> std::io::Result<()>,
) -> Result<(), Error> {
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        lines.read_until(b'\n', &mut line).map_err(Error::file(path, "read"))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let response = serde_json::from_slice(&line).map_err(|error| Error::NotBatchResults {
            path: path.into(),
            line: number,
            reason: error.to_string(),
        })?;
        f(&line, response).map_err(Error::file(path, "write"))?;
    }
    Ok(())
}

/// Replaces the file by one without the failed responses.
fn keep_successes(path: &Path) -> Result<(), Error> {
    let old = File::open(path).map_err(Error::file(path, "read"))?;
    let mut failure = None;
    let written = files::write_with(path, |temporary| {
        let mut new = File::create(temporary)?;
        let copied = for_each_line(path, &old, |line, response| {
            if response.is_success() { new.write_all(line) } else { Ok(()) }
        });
        copied.map_err(|error| {
            failure = Some(error);
            std::io::Error::other("not copied")
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}
