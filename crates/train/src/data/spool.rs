//! A temporary file of byte strings that are written in order and read in any order.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes the entries of a spool.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    file: BufWriter<NamedTempFile>,
    /// The end of each entry.
    ends: Vec<u64>,
}

/// Entries in a file, with the index of their offsets in memory: 8 bytes each.
#[derive(Debug)]
pub(crate) struct Spool {
    /// For messages.
    path: PathBuf,
    file: Mutex<File>,
    ends: Vec<u64>,
    /// Removes a temporary file.
    _temporary: Option<tempfile::TempPath>,
}

impl SpoolWriter {
    /// A spool in a folder, or in the system's folder for temporary files.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        let named = |folder: &Path| {
            std::fs::create_dir_all(folder)?;
            tempfile::Builder::new().prefix(".writing-").suffix(".tmp").tempfile_in(folder)
        };
        let system = std::env::temp_dir();
        let folder = folder.unwrap_or(&system);
        let file = named(folder).map_err(|source| write_error(folder, source))?;
        Ok(Self { file: BufWriter::new(file), ends: Vec::new() })
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: &[u8]) -> Result<()> {
        self.file.write_all(entry).map_err(|source| self.error(source))?;
        self.ends.push(self.ends.last().copied().unwrap_or(0) + entry.len() as u64);
        Ok(())
    }

    /// Appends bytes that are no entry, and moves the file to `path`, so that it stays.
    pub fn keep(self, trailer: impl FnOnce(&[u64]) -> Vec<u8>, path: &Path) -> Result<Spool> {
        let Self { mut file, ends } = self;
        let trailer = trailer(&ends);
        let mut finish = || {
            file.write_all(&trailer)?;
            file.flush()?;
            file.get_ref().as_file().sync_all()
        };
        finish().map_err(|source| write_error(path, source))?;
        let file = file.into_inner().map_err(|error| write_error(path, error.into_error()))?;
        let file = file.persist(path).map_err(|error| write_error(path, error.error))?;
        Ok(Spool { path: path.into(), file: Mutex::new(file), ends, _temporary: None })
    }

    /// Ends writing. The file is removed with the spool.
    pub fn finish(self) -> Result<Spool> {
        let path = self.file.get_ref().path().to_owned();
        let file =
            self.file.into_inner().map_err(|error| write_error(&path, error.into_error()))?;
        let (file, temporary) = file.into_parts();
        Ok(Spool { path, file: Mutex::new(file), ends: self.ends, _temporary: Some(temporary) })
    }

    fn error(&self, source: io::Error) -> Error {
        write_error(self.file.get_ref().path(), source)
    }
}

impl Spool {
    /// A file that was [kept](SpoolWriter::keep); `ends` are ascending.
    pub fn open(path: &Path, file: File, ends: Vec<u64>) -> Self {
        Self { path: path.into(), file: Mutex::new(file), ends, _temporary: None }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An entry.
    pub fn read(&self, index: usize) -> Result<Vec<u8>> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let mut bytes = vec![0; (self.ends[index] - start) as usize];
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut read = || {
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|source| Error::Read { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}

fn write_error(path: &Path, source: io::Error) -> Error {
    checkpoint::Error::Write { path: path.into(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_in_any_order_and_the_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(Some(folder.path())).unwrap();
        for entry in ["ab", "", "c"] {
            writer.push(entry.as_bytes()).unwrap();
        }
        let spool = writer.finish().unwrap();
        for (index, entry) in [(2, "c"), (0, "ab"), (1, ""), (2, "c")] {
            assert_eq!(spool.read(index).unwrap(), entry.as_bytes());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(spool);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SpoolWriter::new(Some(folder.path())).unwrap();
        writer.push(b"abc").unwrap();
        let path = folder.path().join("kept");
        let spool = writer.keep(|_ends| Vec::new(), &path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        assert!(matches!(spool.read(0), Err(Error::Read { .. })));
    }
}
