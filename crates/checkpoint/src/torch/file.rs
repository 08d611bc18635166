//! One PyTorch file: values are read once, tensors on demand.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;

use super::archive::{self, Entry};
use super::invalid::{FORMAT, invalid};
use super::tree::{StorageSizes, TensorInfo, tree};
use super::value::Value;
use super::{legacy, pickle, strided};
use crate::byte_reader::ByteReader;
use crate::byte_source::ByteSource;
use crate::element_type::ElementType;
use crate::error::{Error, Result};

/// A file that `torch.save` wrote.
#[derive(Debug)]
pub struct TorchFile {
    bytes: ByteSource,
    root: Value<TensorInfo>,
    tensors: BTreeMap<String, TensorInfo>,
    storages: BTreeMap<String, Entry>,
}

impl TorchFile {
    /// Reads the values of a file, without the data of its tensors. No code of the file is run.
    ///
    /// ```
    /// use checkpoint::torch::TorchFile;
    /// use checkpoint::ByteSource;
    ///
    /// let error = TorchFile::open(ByteSource::memory("note.txt", b"dear diary")).unwrap_err();
    /// assert!(error.to_string().starts_with("note.txt: not a valid PyTorch file"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Format`] with reason and offset, also for tensors outside of the file; [`Error::Read`].
    pub fn open(bytes: ByteSource) -> Result<Self> {
        let first = bytes.read(0, bytes.len().min(4) as usize)?;
        let ((root, sizes), storages) = match first[..] {
            ref magic if magic == archive::MAGIC => {
                let entries = archive::entries(&bytes)?;
                let (root, sizes) = unpickle(&bytes, entries.pickle)?;
                ((root, sizes), entries.storages)
            }
            [0x80, ..] => {
                let mut reader = ByteReader::new(&bytes, FORMAT);
                let pickle = legacy::value(&bytes, &mut reader)?;
                let (root, sizes) = tree(&bytes, &pickle)?;
                let storages = legacy::storages(&bytes, &mut reader, &sizes)?;
                ((root, sizes), storages)
            }
            _ => {
                return Err(invalid(&bytes, "it is neither a zip archive nor a pickle"));
            }
        };
        for (name, size) in &sizes {
            let needed = size.bytes();
            let found = storages.get(name).map(|entry| entry.len());
            if found.is_none_or(|found| found < needed) {
                let found = found.map_or("none".to_owned(), |found| format!("{found} bytes"));
                let reason = format!("storage {name:?} should have {needed} bytes, found {found}");
                return Err(invalid(&bytes, reason));
            }
        }
        let mut tensors = BTreeMap::new();
        for (name, tensor) in root.tensors() {
            let storage = storages[&tensor.storage].len();
            if let Some(reason) = strided::out_of_bounds(tensor, storage, bytes.len()) {
                return Err(invalid(&bytes, format!("tensor {name} {reason}")));
            }
            if tensors.insert(name.clone(), tensor.clone()).is_some() {
                return Err(invalid(&bytes, format!("two tensors have the name {name}")));
            }
        }
        Ok(Self { bytes, root, tensors, storages })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        self.bytes.path()
    }

    /// File size.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len()
    }

    /// The saved value.
    pub fn root(&self) -> &Value<TensorInfo> {
        &self.root
    }

    /// Every tensor by its path of keys, joined by dots.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// One tensor in row-major order, in the file's precision.
    ///
    /// # Errors
    /// [`Error::TensorType`] for complex numbers and floats of 8 bits, [`Error::Format`] if there is none of that
    /// name or its entry cannot be decompressed; [`Error::Read`].
    pub fn read(&self, name: &str) -> Result<TensorData> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(invalid(&self.bytes, format!("there is no tensor {name}")));
        };
        let Some(dtype) = tensor.dtype.dtype() else {
            return Err(Error::tensor_type(
                self.path(),
                name,
                tensor.dtype,
                ElementType::SUPPORTED,
            ));
        };
        let (start, len) = strided::span(tensor);
        let bytes = archive::read(&self.bytes, self.storages[&tensor.storage], start, len)?;
        Ok(strided::gather(tensor, dtype, bytes))
    }
}

fn unpickle(bytes: &ByteSource, entry: Entry) -> Result<(Value<TensorInfo>, StorageSizes)> {
    let unpacked;
    let mut reader = match entry {
        Entry::Stored { offset, len } => ByteReader::range(bytes, FORMAT, offset..offset + len),
        Entry::Deflated { len, .. } => {
            let whole = archive::read(bytes, entry, 0, len as usize)?;
            unpacked = ByteSource::memory(bytes.path(), whole);
            ByteReader::new(&unpacked, FORMAT)
        }
    };
    let pickle = pickle::read(&mut reader)?;
    tree(bytes, &pickle)
}
