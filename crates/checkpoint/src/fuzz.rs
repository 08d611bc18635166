//! Readers over arbitrary bytes, for the targets in `fuzz/` and the property tests: each opens the bytes
//! as a file and reads everything. It must not panic.

use std::path::Path;

use crate::byte_source::ByteSource;
use crate::folder::parse_index;
use crate::gguf::GgufFile;
use crate::safetensors::SafetensorsFile;
use crate::tensor_source::TensorSource;
use crate::torch::TorchFile;
use crate::weight_files::WeightFiles;

/// File name in messages.
const NAME: &str = "fuzz";

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let Ok(file) = SafetensorsFile::new(ByteSource::memory(NAME, bytes.to_vec())) else { return };
    let dtypes = file.dtypes();
    for name in file.shapes().keys() {
        let is_read = file.read(name).is_ok();
        assert_eq!(
            is_read,
            dtypes[name].is_supported(),
            "valid tensors of supported types are read"
        );
    }
}

/// A GGUF file.
pub fn gguf(bytes: &[u8]) {
    let Ok(file) = GgufFile::open(ByteSource::memory(NAME, bytes.to_vec())) else { return };
    let _ = file.summary().to_string();
    for name in file.tensors().keys() {
        file.read(name).expect("valid tensors are read");
    }
}

/// A GGUF file in two parts, as [`two_parts`] takes them.
pub fn split_gguf(bytes: &[u8]) {
    let Some(file) = two_parts(bytes) else { return };
    for name in file.tensors().keys() {
        file.read(name).expect("valid tensors are read");
    }
}

/// A GGUF file of two parts from one input: the length of the first in four bytes, then both.
pub fn two_parts(bytes: &[u8]) -> Option<GgufFile> {
    let (len, parts) = bytes.split_first_chunk::<4>()?;
    let (first, second) = parts.split_at((u32::from_le_bytes(*len) as usize).min(parts.len()));
    let first = ByteSource::memory("fuzz-00001-of-00002.gguf", first.to_vec());
    let find = |path: &Path| Ok(Some(ByteSource::memory(path, second.to_vec())));
    GgufFile::join(GgufFile::open(first).ok()?, find).ok()
}

/// A PyTorch file, also as `pytorch_model.bin`.
pub fn torch(bytes: &[u8]) {
    let open = || TorchFile::open(ByteSource::memory(NAME, bytes.to_vec()));
    let Ok(file) = open() else { return };
    for name in file.tensors().keys() {
        // A compressed entry may turn out to be damaged.
        let _ = file.read(name);
    }
    let Ok(file) = open() else { return };
    if let Ok(source) = WeightFiles::new(NAME, vec![file.into()]) {
        for name in source.shapes().keys() {
            let _ = source.read(name);
        }
    }
}

/// An index of shards, such as `pytorch_model.bin.index.json`.
pub fn weight_index(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in parse_index(Path::new(NAME), text).into_iter().flatten() {
        assert_eq!(Path::new(&name).file_name(), Some(name.as_ref()), "it stays in its folder");
    }
}
