//! Where the hidden states of the cached examples are kept.

use std::path::{Path, PathBuf};

use super::content_key::ContentKey;
use super::disk_store::DiskStore;
use crate::error::Result;

/// Hidden states of examples, as bytes.
#[derive(Debug)]
pub(super) enum Store {
    /// One buffer per example.
    Memory(Vec<Option<Box<[u8]>>>),
    /// A file that is opened when it is first used.
    Closed(PathBuf),
    /// An open file.
    Disk(DiskStore),
}

impl Store {
    /// An empty store in memory.
    pub fn in_memory(examples: usize) -> Self {
        Self::Memory(vec![None; examples])
    }

    /// Opens the file of a store on disk, with what it holds already if its key is equal. `key` and
    /// `payload_lens`, the number of bytes of each example, are asked for only then.
    pub fn open<I: ExactSizeIterator<Item = u64>>(
        &mut self,
        key: impl FnOnce() -> Result<ContentKey>,
        payload_lens: impl FnOnce() -> I,
    ) -> Result<()> {
        if let Self::Closed(path) = self {
            *self = Self::Disk(DiskStore::open(path, key()?, payload_lens())?);
        }
        Ok(())
    }

    /// The path of a store on disk.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Memory(_) => None,
            Self::Closed(path) => Some(path),
            Self::Disk(disk) => Some(disk.path()),
        }
    }

    /// Replaces `bytes` by those of an example; false if it has none, or damaged ones.
    pub fn read(&self, example: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Memory(examples) => {
                let Some(stored) = &examples[example] else { return Ok(false) };
                bytes.clear();
                bytes.extend_from_slice(stored);
                Ok(true)
            }
            Self::Closed(_) => Ok(false),
            Self::Disk(disk) => disk.read(example, bytes),
        }
    }

    /// Stores the bytes of an example.
    pub fn write(&mut self, example: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Memory(examples) => examples[example] = Some(bytes.into()),
            Self::Closed(_) => {}
            Self::Disk(disk) => disk.write(example, bytes)?,
        }
        Ok(())
    }
}
