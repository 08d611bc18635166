//! Frozen matrices in packed form, and the operations on them.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};

use crate::cpu::packed_matrix::{DenseFormat, PackedMatrix};
use crate::{backend, gpu};

pub use crate::cpu::packed_matrix::QuantizedMatrix;

/// A frozen matrix `[rows, columns]`, packed into panels in host memory and shared by its clones.
/// It is not a parameter and has no gradient.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    packed: Arc<PackedMatrix>,
    #[module(skip)]
    device: Device,
}

impl PackedWeight {
    /// Packs a row-major matrix in f32, f16 or bf16 and keeps that precision.
    ///
    /// # Panics
    /// If the device is not fused, or the data has another element type or is not a matrix.
    pub fn new(data: TensorData, device: &Device) -> Self {
        assert!(backend::is_fused(device), "{device:?} has no packed weights");
        let [rows, columns] = data.shape().dims();
        let format = match data.dtype() {
            DType::F32 => DenseFormat::F32,
            DType::BF16 => DenseFormat::Bf16,
            DType::F16 => DenseFormat::F16,
            other => panic!("a packed weight cannot be {other:?}"),
        };
        let data = data.convert_dtype(DType::F32);
        let values = data.as_slice::<f32>().expect("the data is f32");
        Self::from_packed(PackedMatrix::new(values, [rows, columns], format), device)
    }

    /// Packs a matrix quantized to 8 or 4 bits without changing its values.
    ///
    /// # Panics
    /// If the device is not fused, or lengths do not match the shape.
    pub fn from_quantized(matrix: &QuantizedMatrix, shape: [usize; 2], device: &Device) -> Self {
        assert!(backend::is_fused(device), "{device:?} has no packed weights");
        Self::from_packed(PackedMatrix::from_quantized(matrix, shape), device)
    }

    fn from_packed(packed: PackedMatrix, device: &Device) -> Self {
        Self { packed: Arc::new(packed), device: device.clone().without_autodiff() }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.packed.dims()
    }

    /// The device, without autodiff.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Bits per element, excluding scales and minima.
    pub fn bits(&self) -> usize {
        self.packed.bits()
    }

    /// Size in bytes, including scales and minima.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The whole matrix in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        self.to_tensor(self.packed.to_dense(), self.dims())
    }

    /// The given rows in f32, in the given order.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let [_rows, columns] = self.dims();
        let rows = to_host_indices(rows);
        let mut values = vec![0.0; rows.len() * columns];
        for (&row, to) in rows.iter().zip(values.chunks_exact_mut(columns)) {
            self.packed.read_row(row, to);
        }
        self.to_tensor(values, [rows.len(), columns])
    }

    fn to_tensor(&self, values: Vec<f32>, dims: [usize; 2]) -> Tensor<2> {
        // `from_elems` takes the vector over without a copy.
        let data = TensorData::from_bytes(Bytes::from_elems(values), dims, DType::F32);
        Tensor::from_data(data, &self.device)
    }
}

/// Indices in host memory.
#[expect(
    clippy::disallowed_methods,
    reason = "the tensor is in host memory: reading it does not wait"
)]
fn to_host_indices(indices: Tensor<1, Int>) -> Vec<usize> {
    indices.into_data().iter::<i64>().map(|index| index as usize).collect()
}

/// `input · Wᵀ` for several frozen matrices, concatenated along the columns, plus `residual`.
///
/// Gradients go to the input and the residual; weights have none.
///
/// # Shapes
/// - `input`: `[n, columns]`, f32
/// - `residual`, output: `[n, rows of all weights]`, f32
///
/// # Panics
/// If the device is not fused, the weights differ in their number of columns, or there are no
/// weights.
pub fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: &[&PackedWeight],
) -> Tensor<2> {
    let weights = weights.iter().map(|weight| weight.packed.clone()).collect();
    backend::linears(input, residual, weights)
}

/// The summed cross-entropy, in nats, of the logits `hidden · headᵀ` and the labels.
///
/// Only a part of the logits is in memory at a time. If `hidden` is tracked, its gradient is
/// computed in the same pass.
///
/// # Shapes
/// - `hidden`: `[n, columns]`, f32
/// - `labels`: `[n]`, row indices of the head
/// - output: `[1]`
///
/// # Panics
/// If the device is not fused, the number of labels differs from the number of rows, or a label is
/// out of range.
pub fn cross_entropy(hidden: Tensor<2>, head: &PackedWeight, labels: Tensor<1, Int>) -> Tensor<1> {
    backend::cross_entropy(hidden, head.packed.clone(), Arc::new(to_host_indices(labels)))
}

/// As [`cross_entropy`], with a head that is a tensor in f32 on a GPU. It has no gradient. Labels are not
/// checked.
///
/// # Shapes
/// - `hidden`: `[n, columns]`, f32, at least one row
/// - `head`: `[vocab, columns]`, f32, without autodiff
/// - `labels`: `[n]`, less than `vocab`
/// - output: `[1]`
///
/// # Panics
/// If the device has no [`GpuKernel::CrossEntropy`](crate::GpuKernel::CrossEntropy), or shapes do not
/// match.
pub fn dense_cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    labels: Tensor<1, Int>,
) -> Tensor<1> {
    gpu::cross_entropy(hidden, head, labels)
}
