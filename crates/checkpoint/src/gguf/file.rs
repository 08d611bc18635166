//! One GGUF file, or the parts of a split one: the header is read once, tensors on demand.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;

use super::dequantize::{decode, unpack_blocks};
use super::metadata::Metadata;
use super::reader::{header, invalid};
use super::tensor_info::{self, TensorInfo};
use crate::blocks::QuantizedBlocks;
use crate::byte_source::ByteSource;
use crate::error::Result;

/// Maximum number of tensors, and of metadata entries.
const MAX_ENTRIES: u64 = 1 << 16;
/// Alignment of the tensors without `general.alignment`.
const DEFAULT_ALIGNMENT: usize = 32;

/// A GGUF file with a valid header.
#[derive(Debug)]
pub struct GgufFile {
    /// The parts; most files have one.
    pub(super) parts: Vec<ByteSource>,
    version: u32,
    metadata: Metadata,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl GgufFile {
    /// Reads the header of a file of version 2 or 3. Of a split model this is one part;
    /// [`open_all`](Self::open_all) opens all of them.
    ///
    /// ```
    /// use checkpoint::gguf::GgufFile;
    /// use checkpoint::ByteSource;
    ///
    /// let error = GgufFile::open(ByteSource::memory("note.txt", b"dear diary")).unwrap_err();
    /// assert!(error.to_string().starts_with("note.txt: not a valid GGUF file"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) with reason and offset;
    /// [`Error::TensorType`](crate::Error::TensorType) for unsupported block types;
    /// [`Error::Read`](crate::Error::Read).
    pub fn open(bytes: ByteSource) -> Result<Self> {
        let mut reader = header(&bytes);
        let magic: [u8; 4] = reader.array("the magic number")?;
        if magic != *b"GGUF" {
            return Err(invalid(
                &bytes,
                format!("it starts with {:?}, expected \"GGUF\"", String::from_utf8_lossy(&magic)),
            ));
        }
        let version = reader.u32("the version")?;
        match version {
            2 | 3 => {}
            // A small number in big-endian byte order.
            _ if version.trailing_zeros() >= 16 => {
                return Err(invalid(&bytes, "it is big-endian, expected little-endian"));
            }
            _ => {
                return Err(invalid(&bytes, format!("version {version}, expected 2 or 3")));
            }
        }
        let n_tensors = reader.count(MAX_ENTRIES, "the number of tensors")?;
        let n_values = reader.count(MAX_ENTRIES, "the number of metadata entries")?;
        let metadata = Metadata::read(&mut reader, bytes.path(), n_values)?;
        let mut tensors = tensor_info::read(&mut reader, n_tensors)?;
        let alignment = metadata.optional("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(invalid(
                &bytes,
                format!("general.alignment is {alignment}, expected a small power of two"),
            ));
        }
        let header_end = reader.offset();
        tensor_info::resolve_offsets(&mut tensors, &bytes, header_end, alignment as u64)?;
        Ok(Self { parts: vec![bytes], version, metadata, tensors })
    }

    /// Path of the first part, for messages.
    pub fn path(&self) -> &Path {
        self.parts[0].path()
    }

    /// Size of all parts.
    pub fn len_bytes(&self) -> u64 {
        self.parts.iter().map(ByteSource::len).sum()
    }

    /// Version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor by llama.cpp's name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// One tensor by llama.cpp's name, in the file's row order: f16 and bf16 unchanged, everything else as f32.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if there is none of that name;
    /// [`Error::Read`](crate::Error::Read).
    pub fn read(&self, name: &str) -> Result<TensorData> {
        let info = self.info(name)?;
        Ok(decode(info.block_type, self.read_bytes(info)?, info.shape.clone()))
    }

    /// One matrix by llama.cpp's name in its stored blocks, in the file's row order; `None` for types without
    /// blocks and for other dimensions.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_blocks(&self, name: &str) -> Result<Option<QuantizedBlocks>> {
        let info = self.info(name)?;
        let &[rows, columns] = &info.shape[..] else { return Ok(None) };
        Ok(unpack_blocks(info.block_type, &self.read_bytes(info)?, [rows, columns]))
    }

    /// Shape, type and offset of one tensor by llama.cpp's name.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) if there is none of that name.
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors
            .get(name)
            .ok_or_else(|| invalid(&self.parts[0], format!("there is no tensor {name}")))
    }

    /// The bytes of one of the file's tensors, as stored.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read).
    pub fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        self.parts[info.part].read(info.offset, info.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use testing::gguf::{Fixture, Value};

    fn message(fixture: &Fixture) -> String {
        open(fixture.bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let file = open(Fixture::small().bytes()).unwrap();
        assert_eq!(file.version(), 3);
        assert_eq!(
            file.metadata().get("general.name"),
            Some(&crate::gguf::Value::Text("small".into()))
        );
        assert_eq!(file.tensors()["a"].shape, [2, 3]);
        let a = file.read("a").unwrap();
        assert_eq!(a.as_slice::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(file.read("b").unwrap().as_slice::<f32>().unwrap(), [0.0, 1.0]);
        assert!(file.read("c").unwrap_err().to_string().contains("there is no tensor c"));
    }

    #[test]
    fn version_2_is_supported() {
        let fixture = Fixture { version: 2, ..Fixture::small() };
        assert_eq!(open(fixture.bytes()).unwrap().version(), 2);
    }

    #[test]
    fn other_formats_and_versions_are_rejected() {
        let mut other = Fixture::small().bytes();
        other[..4].copy_from_slice(b"PK\x03\x04");
        assert!(open(other).unwrap_err().to_string().contains("expected \"GGUF\""));
        for (version, expected) in
            [(1, "version 1, expected 2 or 3"), (3 << 24, "big-endian"), (9, "version 9")]
        {
            let message = message(&Fixture { version, ..Fixture::small() });
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn the_alignment_is_read_from_the_file() {
        let mut fixture = Fixture::small();
        fixture.alignment = 256;
        fixture.value("general.alignment", &Value::Unsigned(256));
        let file = open(fixture.bytes()).unwrap();
        assert_eq!(file.tensors()["a"].offset % 256, 0);
        assert_eq!(file.read("b").unwrap().as_slice::<f32>().unwrap(), [0.0, 1.0]);
        let mut fixture = Fixture::small();
        fixture.value("general.alignment", &Value::Unsigned(24));
        assert!(message(&fixture).contains("general.alignment is 24"));
    }

    #[test]
    fn duplicate_names_are_rejected() {
        let mut fixture = Fixture::small();
        fixture.value("general.name", &Value::Bool(true));
        assert!(message(&fixture).contains("metadata key general.name appears twice"));
        let mut fixture = Fixture::small();
        fixture.tensor("b", &[2], 0, &[0; 8]);
        assert!(message(&fixture).contains("tensor b appears twice"));
    }

    #[test]
    fn counts_are_limited() {
        for (place, expected) in
            [(8, "number of tensors is"), (16, "number of metadata entries is")]
        {
            let mut bytes = Fixture::small().bytes();
            bytes[place..place + 8].copy_from_slice(&u64::MAX.to_le_bytes());
            let message = open(bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
