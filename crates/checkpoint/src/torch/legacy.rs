//! The format before PyTorch 1.6: several pickles, then the storages.
//!
//! ```text
//! magic number ─► protocol version ─► system ─► the value ─► storage names ─► (count, numbers)...
//! ```
//!
//! Source: PyTorch, `torch/serialization.py`, `_legacy_save`.

use std::collections::BTreeMap;

use super::archive::Entry;
use super::invalid::{FORMAT, invalid};
use super::node::{Node, Pickle};
use super::pickle;
use super::tree::StorageSizes;
use crate::byte_reader::ByteReader;
use crate::byte_source::ByteSource;
use crate::error::Result;

/// Magic number, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the format.
const VERSION: i64 = 1001;

/// Reads everything up to the value.
pub(super) fn value(bytes: &ByteSource, reader: &mut ByteReader<'_>) -> Result<Pickle> {
    let magic = pickle::read(reader)?;
    if !matches!(magic.root(), Node::Big(number) if *number == MAGIC) {
        return Err(invalid(bytes, "it is a pickle, but not one of PyTorch's"));
    }
    let version = pickle::read(reader)?;
    if !matches!(version.root(), Node::Int(VERSION)) {
        let reason = format!("its version is {:?}, expected {VERSION}", version.root());
        return Err(invalid(bytes, reason));
    }
    let system = pickle::read(reader)?;
    if let Node::Dict(entries) = system.root() {
        let little = entries.iter().find(|(key, _)| {
            matches!(&system.nodes[*key as usize], Node::Text(key) if key == "little_endian")
        });
        if little.is_some_and(|(_, flag)| matches!(system.nodes[*flag as usize], Node::Bool(false)))
        {
            return Err(invalid(bytes, "it is big-endian, expected little-endian"));
        }
    }
    pickle::read(reader)
}

/// Locations of the storages, after the list of their names. `sizes` has the element sizes.
pub(super) fn storages(
    bytes: &ByteSource,
    reader: &mut ByteReader<'_>,
    sizes: &StorageSizes,
) -> Result<BTreeMap<String, Entry>> {
    let names = pickle::read(reader)?;
    let Node::List(list) = names.root() else {
        return Err(invalid(bytes, "the names of its storages are not a list"));
    };
    let mut offset = reader.offset();
    let mut entries = BTreeMap::new();
    for &name in list {
        let Node::Text(name) = &names.nodes[name as usize] else {
            return Err(invalid(bytes, "the name of a storage is not a string"));
        };
        let Some(size) = sizes.get(name) else {
            return Err(invalid(bytes, format!("storage {name:?} belongs to no tensor")));
        };
        let count =
            ByteReader::range(bytes, FORMAT, offset..bytes.len()).u64("the length of a storage")?;
        offset += 8;
        let left = bytes.len() - offset;
        // The count is in elements; only the pickle has their size.
        let len = count.checked_mul(size.size).filter(|&len| len <= left);
        let Some(len) = len else {
            return Err(invalid(
                bytes,
                format!(
                    "storage {name:?} has {count} numbers of {} bytes, the file has {left} bytes \
                     left: it was cut short, or a length is wrong",
                    size.size
                ),
            ));
        };
        entries.insert(name.clone(), Entry::Stored { offset, len });
        offset += len;
    }
    Ok(entries)
}
