//! The cache in a file.
//!
//! ```text
//! magic, content key, number of examples, length of the file │ record │ record │ ...
//! record: checksum, hidden states of an example
//! ```
//!
//! The file has its full length from the start, and records are filled in any order. A record counts only
//! if its checksum fits, so that one that was being written when the process was killed, or that was damaged
//! later, is computed again. The content key covers everything that the states depend on: a file of another
//! model, other data or another processor is replaced.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::content_key::ContentKey;
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"LAprefx1";
const HEADER_LEN: usize = 32;
/// Bytes of a record before its hidden states.
pub(super) const CHECKSUM_LEN: usize = 8;

/// An open file.
#[derive(Debug)]
pub(super) struct DiskStore {
    path: PathBuf,
    file: File,
    header: [u8; HEADER_LEN],
    /// Start of each record, and the end of the last one.
    offsets: Vec<u64>,
}

impl DiskStore {
    /// Opens a file, or replaces it by an empty one if it is not that of `key`.
    pub fn open(
        path: &Path,
        key: ContentKey,
        payload_lens: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Self> {
        let count = payload_lens.len() as u64;
        let mut end = HEADER_LEN as u64;
        let mut offsets = vec![end];
        offsets.extend(payload_lens.map(|len| {
            end += CHECKSUM_LEN as u64 + len;
            end
        }));
        let mut header = [0; HEADER_LEN];
        let parts = [MAGIC, key.bytes(), count.to_le_bytes(), end.to_le_bytes()];
        header.copy_from_slice(parts.as_flattened());

        let open = || File::options().read(true).write(true).open(path);
        let belongs = |mut file: &File| {
            let mut found = [0; HEADER_LEN];
            let is_complete = file.metadata().is_ok_and(|metadata| metadata.len() == end);
            is_complete && file.read_exact(&mut found).is_ok() && found == header
        };
        // Windows does not replace an open file.
        let file = if let Some(file) = open().ok().filter(|file| belongs(file)) {
            file
        } else {
            checkpoint::files::write_with(path, |temporary| {
                let mut file = File::create(temporary)?;
                file.write_all(&header)?;
                file.set_len(end)
            })?;
            open().map_err(|source| Error::Read { path: path.into(), source })?
        };
        Ok(Self { path: path.into(), file, header, offsets })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `bytes` by those of an example; false if its record is empty or damaged.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn read(&self, example: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        let (start, end) = (self.offsets[example], self.offsets[example + 1]);
        let mut checksum = [0; CHECKSUM_LEN];
        bytes.resize((end - start) as usize - CHECKSUM_LEN, 0);
        let mut file = &self.file;
        let read = file
            .seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut checksum))
            .and_then(|()| file.read_exact(bytes));
        match read {
            Ok(()) => Ok(checksum == self.checksum(example, bytes)),
            // Somebody has truncated it.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(Error::Read { path: self.path.clone(), source }),
        }
    }

    /// Stores the bytes of an example: the checksum last, so that no half of a record has one.
    ///
    /// # Errors
    /// [`Error::File`]
    pub fn write(&mut self, example: usize, bytes: &[u8]) -> Result<()> {
        let start = self.offsets[example];
        let checksum = self.checksum(example, bytes);
        let file = &mut self.file;
        file.seek(SeekFrom::Start(start + CHECKSUM_LEN as u64))
            .and_then(|_| file.write_all(bytes))
            .and_then(|()| file.seek(SeekFrom::Start(start)))
            .and_then(|_| file.write_all(&checksum))
            .map_err(|source| checkpoint::Error::Write { path: self.path.clone(), source })?;
        Ok(())
    }

    /// CRC-32C of the header, the example's number and the bytes, after four constant bytes: an empty
    /// record has none.
    fn checksum(&self, example: usize, bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
        let crc = crc32c::crc32c(&self.header);
        let crc = crc32c::crc32c_append(crc, &(example as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc, bytes);
        let mut checksum = [0xa5; CHECKSUM_LEN];
        checksum[4..].copy_from_slice(&crc.to_le_bytes());
        checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, key: u64) -> DiskStore {
        DiskStore::open(path, ContentKey::of_number(key), [4, 0, 6].into_iter()).unwrap()
    }

    fn read(store: &DiskStore, example: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        store.read(example, &mut bytes).unwrap().then_some(bytes)
    }

    #[test]
    fn records_survive_reopening_and_no_other_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let mut store = open(&path, 1);
        assert_eq!([0, 1, 2].map(|example| read(&store, example)), [None, None, None]);
        store.write(2, b"abcdef").unwrap();
        store.write(1, b"").unwrap();
        drop(store);
        let store = open(&path, 1);
        assert_eq!(read(&store, 0), None);
        assert_eq!(read(&store, 1), Some(vec![]));
        assert_eq!(read(&store, 2), Some(b"abcdef".to_vec()));
        drop(store);
        assert_eq!(read(&open(&path, 2), 2), None);
        // The file was replaced.
        assert_eq!(read(&open(&path, 1), 2), None);
    }

    #[test]
    fn a_damaged_record_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        open(&path, 1).write(0, b"1234").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for position in 0..HEADER_LEN + CHECKSUM_LEN + 4 {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&open(&path, 1), 0), None, "byte {position}");
        }
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(&open(&path, 1), 0), None, "{len} bytes");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&open(&path, 1), 0), Some(b"1234".to_vec()));
    }

    #[test]
    fn a_record_is_not_that_of_another_example() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let lens = [4, 4].into_iter();
        let mut store = DiskStore::open(&path, ContentKey::of_number(1), lens).unwrap();
        store.write(0, b"1234").unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.copy_within(HEADER_LEN..HEADER_LEN + 12, HEADER_LEN + 12);
        std::fs::write(&path, &bytes).unwrap();
        let lens = [4, 4].into_iter();
        let store = DiskStore::open(&path, ContentKey::of_number(1), lens).unwrap();
        assert_eq!([read(&store, 0), read(&store, 1)], [Some(b"1234".to_vec()), None]);
    }

    #[test]
    fn a_file_that_was_truncated_while_open_is_read_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let mut store = open(&path, 1);
        store.write(2, b"abcdef").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(40).unwrap();
        assert_eq!(read(&store, 2), None);
    }
}
