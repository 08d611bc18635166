//! Tensors in files: safetensors, GGUF and PyTorch archives.
//!
//! ```text
//! path, bytes ─► ByteSource ─┬─► SafetensorsFile ─┬─► WeightFile ─► WeightFiles ─► TensorSource
//!                            ├─► TorchFile ───────┘   (one file)    (shards)        names, shapes,
//!                            └─► GgufFile ─► tensors, blocks, metadata              one tensor at a time
//! ```
//!
//! A header is read once, tensors are read one at a time from their offset in the file: the peak memory
//! is one tensor. The crate knows no model architecture and no tokenizer.
//!
//! # Files are read, not memory-mapped
//!
//! A memory-mapped file that shrinks kills the process; a failed read is an error. Mapped pages also count
//! as memory in addition to the weights that are made from them. The peak of loading is the model in its
//! run-time precision plus one tensor.
//!
//! # Untrusted files
//!
//! Any file gives a value or an error, without a panic and without allocating memory for a wrong length:
//! lengths and offsets are validated against the file size first. A pickle is a program that may call any
//! Python function; here it is data, and a class in it is a name. `tests/corrupted.rs` of this crate, `text`
//! and `llama` run every reader on thousands of mutated files and bound its memory; `fuzz/` does the same
//! with `cargo fuzz`. Both call the `fuzz` modules of the crates.
//!
//! ```
//! use checkpoint::torch::{Value, to_bytes};
//! use checkpoint::{ByteSource, TensorSource, WeightFile, WeightFiles, files};
//! # use burn::tensor::TensorData;
//!
//! # fn main() -> checkpoint::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! // A PyTorch file with one tensor, as `torch.save({"weight": ...})` writes it.
//! let path = folder.path().join("model.bin");
//! let tensor = Value::Tensor(TensorData::from([[1.0_f32, 2.0], [3.0, 4.0]]));
//! files::write(&path, &to_bytes(&Value::Dict(vec![("weight".into(), tensor)]))?)?;
//!
//! // The format is detected by content, not by name.
//! let weights = WeightFiles::new(folder.path(), vec![WeightFile::open(&path)?])?;
//! assert_eq!(weights.shapes()["weight"], [2, 2]);
//! assert_eq!(weights.read("weight")?.as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
//!
//! // Damaged files give an error that names the file and the reason.
//! let error = WeightFile::open("no-such-file.safetensors").unwrap_err();
//! assert!(error.to_string().starts_with("no-such-file.safetensors: cannot read"));
//! # let _ = ByteSource::memory("in memory", b"");
//! # Ok(())
//! # }
//! ```

mod blocks;
mod byte_reader;
mod byte_source;
mod element_type;
mod error;
mod file_kind;
pub mod files;
pub mod folder;
// Entry points for `fuzz/` and the property tests.
#[doc(hidden)]
pub mod fuzz;
pub mod gguf;
mod load_report;
mod quantization;
mod safetensors;
// Shared by the readers of configs in `text`, `llama` and `vision`.
#[doc(hidden)]
pub mod settings;
mod tensor_source;
pub mod torch;
mod weight_files;

pub use blocks::{BitWidth, BlockOffset, QuantizedBlocks};
pub use byte_source::ByteSource;
pub use diagnostic::{Advice, Diagnostic, Placeholder};
pub use element_type::ElementType;
#[doc(hidden)]
pub use element_type::f64_to_f32;
pub use error::{Error, Result};
pub use file_kind::FileKind;
pub use load_report::{LoadReport, TensorSpec};
pub use quantization::{reject_quantized_config, reject_quantized_tensors};
pub use safetensors::SafetensorsFile;
pub use settings::UnusedSettings;
pub use tensor_source::TensorSource;
#[doc(hidden)]
pub use tensor_source::equal_values;
pub use weight_files::{WeightFile, WeightFiles};
