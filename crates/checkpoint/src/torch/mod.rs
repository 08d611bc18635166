//! PyTorch files (`.pth`, `.pt`, `.bin`, `.ckpt`), read and written without Python.
//!
//! ```text
//! zip archive, or a sequence of pickles ─► pickle ─► values ─► tensors by name ─► data, on demand
//! ```
//!
//! A pickle is a program that builds values and may call any function of Python. Here no code is run: tensors,
//! dictionaries and plain values are supported, everything else is an opaque object with a class name. Every length
//! is validated against the file size before anything is allocated; every tensor must be within its storage.
//!
//! ```
//! use burn::tensor::TensorData;
//! use checkpoint::torch::{TorchFile, Value, to_bytes};
//! use checkpoint::ByteSource;
//!
//! # fn main() -> checkpoint::Result<()> {
//! let gate = Value::Tensor(TensorData::from([0.5_f32, -0.5]));
//! let model = Value::Dict(vec![("gate".into(), gate)]);
//! let value = Value::Dict(vec![("model".into(), model), ("epoch".into(), Value::Int(4))]);
//!
//! let file = TorchFile::open(ByteSource::memory("adapter.pth", to_bytes(&value)?))?;
//! assert_eq!(file.tensors()["model.gate"].shape, [2]);
//! assert_eq!(file.read("model.gate")?.as_slice::<f32>().unwrap(), [0.5, -0.5]);
//! assert_eq!(file.root().get("epoch").and_then(Value::as_int), Some(4));
//! # Ok(())
//! # }
//! ```
//!
//! Source: PyTorch, `torch/serialization.py` and `torch/_utils.py`.

mod archive;
mod calls;
mod element;
mod file;
mod invalid;
mod legacy;
mod literal;
mod machine;
mod node;
mod opcode;
#[cfg(test)]
mod parity;
mod pickle;
mod strided;
mod tree;
mod value;
mod write;

pub use file::TorchFile;
pub use tree::TensorInfo;
pub use value::Value;
pub use write::to_bytes;
