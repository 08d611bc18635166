//! GGUF files: tensors and metadata in one file, as llama.cpp writes it.
//!
//! ```text
//! magic, version, counts ─► metadata ─► tensor infos ─► (alignment) ─► tensors
//!                          keys, values  names, shapes,                blocks ─► f32
//!                                        types, offsets
//! ```
//!
//! Every length is validated against the file size before anything is allocated; every tensor must be
//! within the file, aligned, and overlap no other.
//!
//! ```no_run
//! use checkpoint::ByteSource;
//! use checkpoint::gguf::GgufFile;
//!
//! # fn main() -> checkpoint::Result<()> {
//! let file = GgufFile::open(ByteSource::open("model-q4_k_m.gguf")?)?;
//! let architecture: &str = file.metadata().required("general.architecture")?;
//! println!("{architecture}\n{}", file.summary());
//! let embedding = file.read("token_embd.weight")?;
//! # let _ = embedding;
//! # Ok(())
//! # }
//! ```
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod block_type;
#[cfg(test)]
mod corrupted;
mod dequantize;
mod file;
mod metadata;
mod reader;
mod split;
mod summary;
mod tensor_info;
mod value;

pub use block_type::BlockType;
pub use dequantize::{decode, unpack_blocks};
pub use file::GgufFile;
pub use metadata::Metadata;
pub use split::{is_later_part, part_names};
pub use summary::{Summary, TensorSummary};
pub use tensor_info::TensorInfo;
pub use value::{FromValue, Value};

/// Opens bytes as a file.
#[cfg(test)]
fn open(bytes: Vec<u8>) -> crate::Result<GgufFile> {
    GgufFile::open(crate::ByteSource::memory("test.gguf", bytes))
}
