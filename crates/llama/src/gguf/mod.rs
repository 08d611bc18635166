//! GGUF: weights, config and tokenizer in one file, as llama.cpp writes it.
//!
//! ```text
//! magic, version, counts ─► metadata ─► tensor infos ─► (alignment) ─► tensors
//!                             │              │                            │
//!                   config, tokenizer   names, shapes, types    blocks ─► f32, rows of Wq, Wk
//!                                                                put back in order
//! ```
//!
//! Nothing in a file is believed: lengths are held against the file's size before anything is
//! allocated, and every tensor must lie in the file, on the alignment, over no other.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use llama::Precision;
//! use llama::gguf::{GgufFile, GgufSource};
//! use llama::weights::{Bytes, load};
//!
//! fn open(path: &str, device: &Device) -> llama::Result<()> {
//!     let file = GgufFile::open(Bytes::open(path)?)?;
//!     let (config, tokenizer) = (file.config()?, file.tokenizer()?);
//!     let model = load(config, &GgufSource::new(file)?, Precision::F32, device)?;
//!     let prompt = model.tokens(&[tokenizer.encode("Once upon a time")?])?;
//!     # let _ = prompt;
//!     Ok(())
//! }
//! ```
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod block_type;
pub(crate) mod byte_level;
mod config;
mod dequantise;
mod file;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
mod keys;
mod metadata;
mod reader;
mod sentencepiece;
mod source;
pub(crate) mod split;
mod summary;
mod tensor_info;
mod tokenizer;
mod value;

pub use block_type::BlockType;
pub use file::GgufFile;
pub use metadata::Metadata;
pub use source::GgufSource;
pub use summary::{Summary, TensorSummary};
pub use tensor_info::TensorInfo;
pub use value::Value;
