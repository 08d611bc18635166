//! Bytes of a file, read in parts from disk or from memory.
//!
//! Files are read, not mapped: a mapped file that shrinks kills the process, a failed read is an error; and
//! mapped pages would count in addition to the weights made from them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use diagnostic::Placeholder;

use crate::error::{Error, Result};

/// A file on disk, or bytes in memory.
#[derive(Debug)]
pub struct ByteSource {
    path: PathBuf,
    len: u64,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Disk(Mutex<File>),
    Memory(Cow<'static, [u8]>),
}

impl ByteSource {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Placeholder`] for a file that was never downloaded, such as a Git LFS pointer;
    /// [`Error::Read`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::open(&path).map_err(Error::read(&path))?;
        let len = file.metadata().map_err(Error::read(&path))?.len();
        let bytes = Self { path, len, storage: Storage::Disk(Mutex::new(file)) };
        match Placeholder::of(&bytes.head(Placeholder::HEAD_BYTES)?) {
            Some(found) => Err(Error::Placeholder { path: bytes.path, found }),
            None => Ok(bytes),
        }
    }

    /// The first bytes, at most `len`.
    pub(crate) fn head(&self, len: usize) -> Result<Vec<u8>> {
        self.read(0, self.len.min(len as u64) as usize)
    }

    /// Whether `len` bytes from an offset equal those of another source from its offset. Reads up to the
    /// first difference.
    ///
    /// # Errors
    /// [`Error::Read`], also if one of them ends before.
    pub(crate) fn equals(
        &self,
        offset: u64,
        (other, other_offset): (&Self, u64),
        len: u64,
    ) -> Result<bool> {
        const WINDOW: u64 = 1 << 20;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < len {
            let window = WINDOW.min(len - done) as usize;
            ours.resize(window, 0);
            theirs.resize(window, 0);
            self.read_into(offset + done, &mut ours)?;
            other.read_into(other_offset + done, &mut theirs)?;
            if ours != theirs {
                return Ok(false);
            }
            done += window as u64;
        }
        Ok(true)
    }

    /// Bytes in memory; `name` is their path in messages.
    pub fn memory(name: impl Into<PathBuf>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        let bytes = bytes.into();
        Self { path: name.into(), len: bytes.len() as u64, storage: Storage::Memory(bytes) }
    }

    /// Path or name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a size of a file, not of a collection")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`Error::Read`], also if the file ends before.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.check(offset, len)?;
        let mut buffer = vec![0; len];
        self.read_into(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// Fills `buffer` with the bytes from `offset`.
    ///
    /// # Errors
    /// [`Error::Read`], also if the file ends before.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check(offset, buffer.len())?;
        match &self.storage {
            Storage::Memory(bytes) => {
                let start = offset as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Storage::Disk(file) => {
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))
                    .and_then(|_| file.read_exact(buffer))
                    .map_err(Error::read(&self.path))
            }
        }
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        if offset.checked_add(len as u64).is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        let source = std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            format!("{len} bytes from {offset} asked, the file has {}", self.len),
        );
        Err(Error::Read { path: self.path.clone(), source })
    }
}
