//! Named tensors, read one at a time.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;

use crate::blocks::QuantizedBlocks;
use crate::error::Result;

/// A source of named tensors: one file, several shards, or a mapping of names on top of them.
pub trait TensorSource {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Shape of every tensor by name.
    fn shapes(&self) -> &BTreeMap<String, Vec<usize>>;

    /// One tensor in row-major order, as f32, f16 or bf16.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read), [`Error::Format`](crate::Error::Format), or
    /// [`Error::TensorType`](crate::Error::TensorType) for other element types.
    fn read(&self, name: &str) -> Result<TensorData>;

    /// Whether two tensors hold the same values.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        Ok(equal_values(&self.read(one)?, &self.read(other)?))
    }

    /// One matrix in its stored blocks, if it is stored in blocks of at most 8 bits per weight.
    ///
    /// # Errors
    /// [`Error::Read`](crate::Error::Read) or [`Error::Format`](crate::Error::Format).
    fn read_blocks(&self, name: &str) -> Result<Option<QuantizedBlocks>> {
        let _ = name;
        Ok(None)
    }

    /// The tensor's name in the file, for messages.
    fn name_in_file(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// Whether two tensors have one shape and the same values, in any precision.
pub fn equal_values(one: &TensorData, other: &TensorData) -> bool {
    one.shape() == other.shape() && one.iter::<f32>().eq(other.iter::<f32>())
}
