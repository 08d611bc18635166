//! PyTorch's zip archive: `NAME/data.pkl`, `NAME/data/0`, `NAME/data/1`, ..., `NAME/byteorder`.
//!
//! PyTorch stores its entries uncompressed, so that a tensor is read from its offset. Compressed archives of other
//! programs are supported too: their entries are decompressed on demand.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::invalid::{FORMAT, invalid};
use crate::byte_source::ByteSource;
use crate::error::{Error, Result};

/// First bytes of a zip archive.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
/// Maximum compression ratio of deflate.
const BEST_RATIO: u64 = 1032;
/// Maximum length of an entry that is read as a string.
const MAX_TEXT_LEN: u64 = 1 << 10;

/// Location of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// Uncompressed, at an offset.
    Stored { offset: u64, len: u64 },
    /// A compressed entry of the archive.
    Deflated { index: usize, len: u64 },
}

impl Entry {
    /// Uncompressed length.
    pub(super) fn len(self) -> u64 {
        match self {
            Self::Stored { len, .. } | Self::Deflated { len, .. } => len,
        }
    }
}

/// The entries of a PyTorch file.
pub(super) struct Entries {
    pub(super) pickle: Entry,
    /// Storages by name.
    pub(super) storages: BTreeMap<String, Entry>,
}

pub(super) fn entries(bytes: &ByteSource) -> Result<Entries> {
    let all = all_entries(bytes)?;
    let mut pickles = all.keys().filter_map(|name| {
        name.strip_suffix("data.pkl").filter(|folder| folder.is_empty() || folder.ends_with('/'))
    });
    // The shortest path is PyTorch's own.
    let folder = pickles.next().map(|first| {
        pickles.fold(first, |best, next| if next.len() < best.len() { next } else { best })
    });
    let Some(folder) = folder else {
        return Err(invalid(bytes, "the archive has no data.pkl"));
    };
    if let Some(&order) = all.get(&format!("{folder}byteorder")) {
        let len = order.len().min(MAX_TEXT_LEN) as usize;
        let order = read(bytes, order, 0, len)?;
        if order.trim_ascii() != b"little" {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(invalid(
                bytes,
                format!("its byte order is {order:?}, expected \"little\""),
            ));
        }
    }
    let data = format!("{folder}data/");
    let storage =
        |(name, &entry): (&String, &Entry)| Some((name.strip_prefix(&data)?.into(), entry));
    Ok(Entries {
        pickle: all[&format!("{folder}data.pkl")],
        storages: all.iter().filter_map(storage).collect(),
    })
}

/// Every entry by name, validated against the file size.
fn all_entries(bytes: &ByteSource) -> Result<BTreeMap<String, Entry>> {
    let mut archive = open(bytes)?;
    let mut all = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| invalid_archive(bytes, &error))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let (len, packed) = (entry.size(), entry.compressed_size());
        let Some(offset) = entry.data_start() else { continue };
        let fits = offset.checked_add(packed).is_some_and(|end| end <= bytes.len());
        let entry = match entry.compression() {
            CompressionMethod::Stored if fits && len == packed => Entry::Stored { offset, len },
            CompressionMethod::Deflated if fits && len / BEST_RATIO <= packed => {
                Entry::Deflated { index, len }
            }
            CompressionMethod::Stored | CompressionMethod::Deflated => {
                return Err(invalid(
                    bytes,
                    format!(
                        "entry {name} claims {len} bytes in {packed} at byte {offset}, the file \
                         has {}: it was cut short, or a length is wrong",
                        bytes.len()
                    ),
                ));
            }
            other => {
                return Err(invalid(
                    bytes,
                    format!("entry {name} has compression {other:?}, expected stored or deflated"),
                ));
            }
        };
        all.insert(name, entry);
    }
    Ok(all)
}

/// `len` bytes from `start` of an entry. The caller has validated them against its length.
pub(super) fn read(bytes: &ByteSource, entry: Entry, start: u64, len: usize) -> Result<Vec<u8>> {
    match entry {
        Entry::Stored { offset, .. } => bytes.read(offset + start, len),
        Entry::Deflated { index, .. } => {
            let mut archive = open(bytes)?;
            let mut entry =
                archive.by_index(index).map_err(|error| invalid_archive(bytes, &error))?;
            let failed = |error: std::io::Error| {
                invalid(
                    bytes,
                    format!("entry {index} of the archive cannot be decompressed: {error}"),
                )
            };
            std::io::copy(&mut entry.by_ref().take(start), &mut std::io::sink()).map_err(failed)?;
            let mut out = Vec::new();
            // Grows with the actual data, not with the claimed length.
            entry.take(len as u64).read_to_end(&mut out).map_err(failed)?;
            if out.len() < len {
                let reason = format!("entry {index} of the archive ends before its length");
                return Err(invalid(bytes, reason));
            }
            Ok(out)
        }
    }
}

fn open(bytes: &ByteSource) -> Result<ZipArchive<BufReader<Cursor<'_>>>> {
    let cursor = BufReader::new(Cursor { bytes, at: 0 });
    ZipArchive::new(cursor).map_err(|error| invalid_archive(bytes, &error))
}

fn invalid_archive(bytes: &ByteSource, error: &zip::result::ZipError) -> Error {
    Error::Format {
        path: bytes.path().into(),
        format: FORMAT,
        reason: format!("zip archive: {error}"),
    }
}

/// A position in the bytes, for the `zip` crate.
struct Cursor<'a> {
    bytes: &'a ByteSource,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.bytes.len().saturating_sub(self.at);
        let len = left.min(buffer.len() as u64) as usize;
        self.bytes.read_into(self.at, &mut buffer[..len]).map_err(std::io::Error::other)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        // Seeking past the end is never needed.
        self.at = at
            .filter(|&at| at <= self.bytes.len())
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
