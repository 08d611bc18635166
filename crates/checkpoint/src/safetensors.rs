//! Safetensors files: the header is read once, tensors on demand.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::byte_source::ByteSource;
use crate::element_type::{ElementType, f64_to_f32};
use crate::error::{Error, Result};
use crate::file_kind::FileKind;

/// Maximum length of a header, as in the format.
const MAX_HEADER_LEN: u64 = 100_000_000;

/// One safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    bytes: ByteSource,
    shapes: BTreeMap<String, Vec<usize>>,
    locations: BTreeMap<String, TensorLocation>,
}

#[derive(Debug, Clone, Copy)]
struct TensorLocation {
    element: ElementType,
    offset: u64,
    len: usize,
}

impl SafetensorsFile {
    /// Reads the header of a file. Tensors of unsupported types are listed, but [`read`](Self::read) rejects
    /// them.
    ///
    /// # Errors
    /// [`Error::Format`] for an invalid header, and for truncated or overlapping data.
    pub fn new(bytes: ByteSource) -> Result<Self> {
        let format_error = |reason: String| Error::Format {
            path: bytes.path().into(),
            format: "safetensors",
            reason,
        };
        if bytes.len() < 8 {
            return Err(format_error(format!("{} bytes are too few for a header", bytes.len())));
        }
        let first = bytes.read(0, 8)?;
        let header = u64::from_le_bytes(first.try_into().expect("eight bytes were read"));
        let room = bytes.len() - 8;
        if header > room || header > MAX_HEADER_LEN {
            return Err(format_error(match FileKind::of(&bytes)? {
                kind @ (FileKind::Gguf | FileKind::Torch) => format!("it is {kind}"),
                _ => format!(
                    "the header claims {header} bytes, the file has {room} after the first 8"
                ),
            }));
        }
        // `SafeTensors::read_metadata` takes the whole file; deserializing the header validates it.
        let head = bytes.read(8, header as usize)?;
        let metadata: Metadata = serde_json::from_slice(&head)
            .map_err(|error| format_error(format!("bad header: {error}")))?;
        let data = header + 8;
        let mut shapes = BTreeMap::new();
        let mut locations = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let last = data.saturating_add(end as u64);
            if last > bytes.len() {
                return Err(format_error(format!(
                    "tensor {name} ends at byte {last}, the file at {}: it is truncated",
                    bytes.len()
                )));
            }
            let Some(element) = element(info.dtype) else {
                return Err(format_error(format!(
                    "tensor {name} has the unknown type {:?}",
                    info.dtype
                )));
            };
            shapes.insert(name.clone(), info.shape.clone());
            let location =
                TensorLocation { element, offset: data + start as u64, len: end - start };
            locations.insert(name, location);
        }
        Ok(Self { bytes, shapes, locations })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// Shape of every tensor by name.
    pub fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// Element type of every tensor by name.
    pub fn dtypes(&self) -> BTreeMap<String, ElementType> {
        self.locations.iter().map(|(name, location)| (name.clone(), location.element)).collect()
    }

    /// Element type of a tensor.
    pub(super) fn dtype(&self, name: &str) -> Option<ElementType> {
        self.locations.get(name).map(|location| location.element)
    }

    /// File size.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// One tensor, in the file's precision; f64 as f32.
    ///
    /// # Errors
    /// [`Error::TensorType`] for integers, booleans and floats of at most 8 bits;
    /// [`Error::Format`] if there is none of that name; [`Error::Read`].
    pub fn read(&self, name: &str) -> Result<TensorData> {
        let Some(location) = self.locations.get(name) else {
            return Err(Error::Format {
                path: self.bytes.path().into(),
                format: "safetensors",
                reason: format!("there is no tensor {name}"),
            });
        };
        let Some(dtype) = location.element.dtype().filter(|_| location.element.is_supported())
        else {
            let path = self.bytes.path();
            return Err(Error::tensor_type(path, name, location.element, ElementType::SUPPORTED));
        };
        let bytes = self.bytes.read(location.offset, location.len)?;
        Ok(f64_to_f32(TensorData::from_bytes_vec(bytes, self.shapes[name].clone(), dtype)))
    }

    /// Whether a tensor is bitwise identical to one of another file or of this one, with the same shape and
    /// type.
    pub(super) fn is_identical(&self, name: &str, other: &Self, theirs: &str) -> Result<bool> {
        let (Some(one), Some(two)) = (self.locations.get(name), other.locations.get(theirs)) else {
            return Ok(false);
        };
        if one.element != two.element || self.shapes[name] != other.shapes[theirs] {
            return Ok(false);
        }
        self.bytes.equals(one.offset, (&other.bytes, two.offset), one.len as u64)
    }
}

fn element(dtype: Dtype) -> Option<ElementType> {
    Some(match dtype {
        Dtype::BOOL => ElementType::BOOL,
        Dtype::F4 => ElementType::F4,
        Dtype::F6_E2M3 => ElementType::F6_E2M3,
        Dtype::F6_E3M2 => ElementType::F6_E3M2,
        Dtype::U8 => ElementType::U8,
        Dtype::I8 => ElementType::I8,
        Dtype::F8_E5M2 => ElementType::F8_E5M2,
        Dtype::F8_E4M3 => ElementType::F8_E4M3,
        Dtype::F8_E8M0 => ElementType::F8_E8M0,
        Dtype::F8_E4M3FNUZ => ElementType::F8_E4M3FNUZ,
        Dtype::F8_E5M2FNUZ => ElementType::F8_E5M2FNUZ,
        Dtype::I16 => ElementType::I16,
        Dtype::U16 => ElementType::U16,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::I32 => ElementType::I32,
        Dtype::U32 => ElementType::U32,
        Dtype::F32 => ElementType::F32,
        Dtype::C64 => ElementType::C64,
        Dtype::F64 => ElementType::F64,
        Dtype::I64 => ElementType::I64,
        Dtype::U64 => ElementType::U64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Result<SafetensorsFile> {
        let len = (header.len() as u64).to_le_bytes();
        let bytes = [&len[..], header.as_bytes(), data].concat();
        SafetensorsFile::new(ByteSource::memory("test", bytes))
    }

    fn reason(header: &str, data: &[u8]) -> String {
        file(header, data).unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_read_one_by_one() {
        let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]},"__metadata__":{"format":"pt"}}"#;
        let data = [&1.5_f32.to_le_bytes()[..], &[0x80, 0x3f, 0, 0xc0]].concat();
        let file = file(header, &data).unwrap();
        assert_eq!(file.shapes()["b"], [2, 1]);
        assert_eq!(file.read("a").unwrap().iter::<f32>().collect::<Vec<_>>(), [1.5]);
        assert_eq!(file.read("b").unwrap().iter::<f32>().collect::<Vec<_>>(), [1.0, -2.0]);
        assert!(matches!(file.read("c"), Err(Error::Format { .. })));
    }

    #[test]
    fn unsupported_types_are_an_error_only_when_read() {
        for (name, size) in [("I64", 8), ("F8_E4M3", 1), ("BOOL", 1), ("U8", 1), ("C64", 8)] {
            let header = format!(
                r#"{{"a":{{"dtype":"F64","shape":[1],"data_offsets":[0,8]}},
                "odd":{{"dtype":"{name}","shape":[1],"data_offsets":[8,{}]}}}}"#,
                8 + size
            );
            let data = [&0.5_f64.to_le_bytes()[..], &vec![0; size]].concat();
            let file = file(&header, &data).unwrap();
            assert_eq!(file.read("a").unwrap().as_slice::<f32>().unwrap(), [0.5]);
            let error = file.read("odd").unwrap_err();
            assert!(matches!(error, Error::TensorType { .. }), "{error}");
            assert!(error.to_string().contains(&format!("tensor odd holds {name}")), "{error}");
        }
    }

    #[test]
    fn other_files_are_rejected_with_the_reason() {
        let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(reason(one, &[0; 3]).contains("it is truncated"));
        assert!(reason("{", &[]).contains("bad header"));
        let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387903],
            "data_offsets":[0,18446744073709551612]}}"#;
        assert!(file(huge, &[0; 4]).is_err());
        let of = |bytes: &'static [u8]| {
            SafetensorsFile::new(ByteSource::memory("test", bytes)).unwrap_err().to_string()
        };
        assert!(of(b"short").contains("too few for a header"));
        assert!(of(&[0xff; 16]).contains("the header claims"));
        assert!(of(b"GGUF\x03\0\0\0........").ends_with("it is a GGUF file"));
        assert!(of(b"PK\x03\x04............").ends_with("it is a PyTorch file"));
    }
}
