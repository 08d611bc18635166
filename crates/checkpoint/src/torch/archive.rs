//! PyTorch's zip archive: `NAME/data.pkl`, `NAME/data/0`, `NAME/data/1`, ..., `NAME/byteorder`.
//!
//! PyTorch stores its entries as they are, so that a tensor is read at its place. Archives that
//! another program has packed again are read too: those entries are unpacked when asked for.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::invalid::{FORMAT, invalid};
use crate::byte_source::ByteSource;
use crate::error::{Error, Result};

/// What the first bytes of a zip archive are.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
/// How many times smaller deflate can make something.
const BEST_RATIO: u64 = 1032;
/// Longest entry that is unpacked to be read as text.
const LONGEST_TEXT: u64 = 1 << 10;

/// Where some bytes of the file are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// As they are, at an offset.
    Stored { offset: u64, len: u64 },
    /// In a packed entry of the archive.
    Deflated { index: usize, len: u64 },
}

impl Place {
    /// Length, unpacked.
    pub(super) fn len(self) -> u64 {
        match self {
            Self::Stored { len, .. } | Self::Deflated { len, .. } => len,
        }
    }
}

/// The entries of an archive that matter.
pub(super) struct Entries {
    pub(super) pickle: Place,
    /// By the storages' names.
    pub(super) storages: BTreeMap<String, Place>,
}

pub(super) fn entries(bytes: &ByteSource) -> Result<Entries> {
    let places = places(bytes)?;
    let mut pickles = places.keys().filter_map(|name| {
        name.strip_suffix("data.pkl").filter(|folder| folder.is_empty() || folder.ends_with('/'))
    });
    // The shortest is PyTorch's own, whatever else somebody put into the archive.
    let folder = pickles.next().map(|first| {
        pickles.fold(first, |best, next| if next.len() < best.len() { next } else { best })
    });
    let Some(folder) = folder else {
        return Err(invalid(bytes, "the archive has no data.pkl"));
    };
    if let Some(&order) = places.get(&format!("{folder}byteorder")) {
        let len = order.len().min(LONGEST_TEXT) as usize;
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
        |(name, &place): (&String, &Place)| Some((name.strip_prefix(&data)?.into(), place));
    Ok(Entries {
        pickle: places[&format!("{folder}data.pkl")],
        storages: places.iter().filter_map(storage).collect(),
    })
}

/// Every entry by name, held against the file's length.
fn places(bytes: &ByteSource) -> Result<BTreeMap<String, Place>> {
    let mut archive = open(bytes)?;
    let mut places = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| damaged(bytes, &error))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let (len, packed) = (entry.size(), entry.compressed_size());
        let Some(offset) = entry.data_start() else { continue };
        let fits = offset.checked_add(packed).is_some_and(|end| end <= bytes.len());
        let place = match entry.compression() {
            CompressionMethod::Stored if fits && len == packed => Place::Stored { offset, len },
            CompressionMethod::Deflated if fits && len / BEST_RATIO <= packed => {
                Place::Deflated { index, len }
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
                    format!("entry {name} is packed by {other:?}, expected stored or deflated"),
                ));
            }
        };
        places.insert(name, place);
    }
    Ok(places)
}

/// `len` bytes from `start` of some part of the file. The caller has held them against the part's
/// length.
pub(super) fn read(bytes: &ByteSource, place: Place, start: u64, len: usize) -> Result<Vec<u8>> {
    match place {
        Place::Stored { offset, .. } => bytes.read(offset + start, len),
        Place::Deflated { index, .. } => {
            let mut archive = open(bytes)?;
            let mut entry = archive.by_index(index).map_err(|error| damaged(bytes, &error))?;
            let failed = |error: std::io::Error| {
                invalid(bytes, format!("entry {index} of the archive cannot be unpacked: {error}"))
            };
            std::io::copy(&mut entry.by_ref().take(start), &mut std::io::sink()).map_err(failed)?;
            let mut out = Vec::new();
            // Grows with what is really there, not with what the archive claims.
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
    ZipArchive::new(cursor).map_err(|error| damaged(bytes, &error))
}

fn damaged(bytes: &ByteSource, error: &zip::result::ZipError) -> Error {
    Error::Format {
        path: bytes.path().into(),
        format: FORMAT,
        reason: format!("zip archive: {error}"),
    }
}

/// A place in the bytes, as the `zip` crate wants it.
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
        // Behind the end would be allowed, and no archive needs it.
        self.at = at
            .filter(|&at| at <= self.bytes.len())
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
