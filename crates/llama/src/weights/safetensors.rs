//! Safetensors files: the header is read once, tensors one by one when asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::{Bytes, TensorSource};
use crate::error::{Error, Result};

/// Longest header that is read; the format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// One safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    bytes: Bytes,
    shapes: BTreeMap<String, Vec<usize>>,
    places: BTreeMap<String, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    dtype: DType,
    offset: u64,
    len: usize,
}

/// All files of a model.
#[derive(Debug)]
pub struct SafetensorsSource {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl SafetensorsFile {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`Error::Format`] for a header that is no header, data that is cut short or overlaps, and
    /// numbers of a kind that models do not have.
    pub fn new(bytes: Bytes) -> Result<Self> {
        let broken = |reason: String| Error::Format {
            path: bytes.path().into(),
            format: "safetensors",
            reason,
        };
        if bytes.len() < 8 {
            return Err(broken(format!("{} bytes are too few for a header", bytes.len())));
        }
        let first = bytes.read(0, 8)?;
        let header = u64::from_le_bytes(first.try_into().expect("eight bytes were read"));
        let room = bytes.len() - 8;
        if header > room || header > LONGEST_HEADER {
            return Err(broken(format!(
                "the header claims {header} bytes, the file has {room} behind its first 8"
            )));
        }
        // `SafeTensors::read_metadata` would want the whole file; the header alone checks itself.
        let head = bytes.read(8, header as usize)?;
        let metadata: Metadata = serde_json::from_slice(&head)
            .map_err(|error| broken(format!("bad header: {error}")))?;
        let data = header + 8;
        let mut shapes = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let last = data.saturating_add(end as u64);
            if last > bytes.len() {
                return Err(broken(format!(
                    "tensor {name} ends at byte {last}, the file at {}: it was cut short",
                    bytes.len()
                )));
            }
            let dtype = match info.dtype {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                // Masks of old files, which nobody reads.
                Dtype::BOOL | Dtype::U8 => DType::U8,
                other => {
                    return Err(broken(format!(
                        "tensor {name} holds {other:?}, expected F32, F16 or BF16"
                    )));
                }
            };
            shapes.insert(name.clone(), info.shape.clone());
            let place = Place { dtype, offset: data + start as u64, len: end - start };
            places.insert(name, place);
        }
        Ok(Self { bytes, shapes, places })
    }

    /// Every tensor's shape by name.
    pub fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// Every tensor's precision by name.
    pub fn dtypes(&self) -> BTreeMap<String, DType> {
        self.places.iter().map(|(name, place)| (name.clone(), place.dtype)).collect()
    }

    /// Size on disk.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// One tensor, in the file's precision.
    ///
    /// # Errors
    /// [`Error::Format`] if there is none of that name, [`Error::Read`]
    pub fn read(&self, name: &str) -> Result<TensorData> {
        let Some(place) = self.places.get(name) else {
            return Err(Error::Format {
                path: self.bytes.path().into(),
                format: "safetensors",
                reason: format!("no tensor is called {name}"),
            });
        };
        if place.dtype == DType::U8 {
            return Err(Error::Format {
                path: self.bytes.path().into(),
                format: "safetensors",
                reason: format!("tensor {name} holds bytes, expected F32, F16 or BF16"),
            });
        }
        let bytes = self.bytes.read(place.offset, place.len)?;
        Ok(TensorData::from_bytes_vec(bytes, self.shapes[name].clone(), place.dtype))
    }
}

impl SafetensorsSource {
    /// The tensors of one or several files together; `path` is what messages call them.
    ///
    /// # Errors
    /// [`Error::Format`] if two files hold a tensor of the same name.
    pub fn new(path: impl Into<PathBuf>, files: Vec<SafetensorsFile>) -> Result<Self> {
        let path = path.into();
        let mut shapes = BTreeMap::new();
        for file in &files {
            for (name, shape) in &file.shapes {
                if shapes.insert(name.clone(), shape.clone()).is_some() {
                    return Err(Error::Format {
                        path,
                        format: "sharded safetensors",
                        reason: format!("tensor {name} is in two files"),
                    });
                }
            }
        }
        Ok(Self { path, files, shapes })
    }

    /// The files.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }
}

impl TensorSource for SafetensorsSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&self, name: &str) -> Result<TensorData> {
        let holder = self.files.iter().find(|file| file.places.contains_key(name));
        match holder.or_else(|| self.files.first()) {
            Some(file) => file.read(name),
            None => Err(Error::NotAModel {
                path: self.path.clone(),
                reason: "no safetensors file".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Result<SafetensorsFile> {
        let len = (header.len() as u64).to_le_bytes();
        let bytes = [&len[..], header.as_bytes(), data].concat();
        SafetensorsFile::new(Bytes::memory("test", bytes))
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
    fn what_is_no_such_file_says_why() {
        let one = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(reason(one, &[0; 3]).contains("it was cut short"));
        assert!(reason("{", &[]).contains("bad header"));
        let huge = r#"{"a":{"dtype":"F32","shape":[4611686018427387903],
            "data_offsets":[0,18446744073709551612]}}"#;
        assert!(file(huge, &[0; 4]).is_err());
        let odd = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        assert!(reason(odd, &[0; 8]).contains("tensor a holds I64"));
        let error = SafetensorsFile::new(Bytes::memory("test", b"short")).unwrap_err();
        assert!(error.to_string().contains("too few for a header"));
        let error = SafetensorsFile::new(Bytes::memory("test", &[0xff; 16])).unwrap_err();
        assert!(error.to_string().contains("the header claims"));
    }
}
