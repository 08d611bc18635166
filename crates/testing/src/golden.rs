//! Golden files: values that a reference program computed.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};

/// Folder of the golden files, `tests/golden`.
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// One golden safetensors file.
#[derive(Debug)]
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads `tests/golden/{name}`.
    ///
    /// # Panics
    /// If it is missing. The message contains the command that generates it.
    pub fn open(name: &str) -> Self {
        let path = golden_folder().join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}\ngenerate it with: python3 tests/golden/make.py (see its README)",
                path.display()
            )
        });
        Self { path, bytes }
    }

    /// The names of the tensors.
    pub fn names(&self) -> Vec<String> {
        self.parsed().names().into_iter().map(str::to_owned).collect()
    }

    /// A float tensor.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, values) = self.floats(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Shape and values of an f32 tensor.
    pub fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, dtype, bytes) = self.raw(name);
        assert_eq!(dtype, Dtype::F32, "{name}: dtype");
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (shape, values.collect())
    }

    /// Shape and values of an int64 tensor.
    pub fn ints(&self, name: &str) -> (Vec<usize>, Vec<i64>) {
        let (shape, dtype, bytes) = self.raw(name);
        assert_eq!(dtype, Dtype::I64, "{name}: dtype");
        let values = bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("chunks of eight")));
        (shape, values.collect())
    }

    /// The rows of an int64 matrix.
    pub fn int_rows(&self, name: &str) -> Vec<Vec<i64>> {
        let (shape, values) = self.ints(name);
        values.chunks(shape[1]).map(<[i64]>::to_vec).collect()
    }

    /// An int64 matrix as a tensor.
    pub fn int_tensor(&self, name: &str, device: &Device) -> Tensor<2, Int> {
        let (shape, values) = self.ints(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn raw(&self, name: &str) -> (Vec<usize>, Dtype, Vec<u8>) {
        let parsed = self.parsed();
        let view = parsed
            .tensor(name)
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()));
        (view.shape().to_vec(), view.dtype(), view.data().to_vec())
    }

    fn parsed(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }
}
