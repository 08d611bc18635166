//! Frozen matrices in packed form, and the operations on them.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};

use crate::backend::device_matrices::{self, DeviceMatrix};
use crate::cpu::packed_matrix::{DenseFormat, PackedMatrix};
use crate::{backend, gpu};

pub use crate::cpu::packed_matrix::QuantizedMatrix;

/// A frozen matrix `[rows, columns]`, shared by its clones. It is not a parameter and has no gradient.
///
/// On fused devices it is packed into panels in host memory; on GPUs it is in the device's memory, in
/// words that the kernels unpack.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    matrix: Matrix,
    #[module(skip)]
    device: Device,
}

#[derive(Debug, Clone)]
enum Matrix {
    Host(Arc<PackedMatrix>),
    Device(Arc<DeviceMatrix>),
}

impl PackedWeight {
    /// Packs a row-major matrix in f32, f16 or bf16 and keeps that precision.
    ///
    /// # Panics
    /// If the device has no packed weights, see [`has_packed_weights`](crate::has_packed_weights), or
    /// the data has another element type or is not a matrix.
    pub fn new(data: TensorData, device: &Device) -> Self {
        if !backend::is_fused(device) {
            return Self::on_device(DeviceMatrix::new(data, device), device);
        }
        let [rows, columns] = data.shape().dims();
        let format = match data.dtype() {
            DType::F32 => DenseFormat::F32,
            DType::BF16 => DenseFormat::Bf16,
            DType::F16 => DenseFormat::F16,
            other => panic!("a packed weight cannot be {other:?}"),
        };
        let data = data.convert_dtype(DType::F32);
        let values = data.as_slice::<f32>().expect("the data is f32");
        Self::on_host(PackedMatrix::new(values, [rows, columns], format), device)
    }

    /// Packs a matrix quantized to 8 or 4 bits without changing its values.
    ///
    /// # Panics
    /// If the device has no packed weights, or lengths do not match the shape.
    pub fn from_quantized(matrix: &QuantizedMatrix, shape: [usize; 2], device: &Device) -> Self {
        if backend::is_fused(device) {
            Self::on_host(PackedMatrix::from_quantized(matrix, shape), device)
        } else {
            Self::on_device(DeviceMatrix::from_quantized(matrix, shape, device), device)
        }
    }

    fn on_host(packed: PackedMatrix, device: &Device) -> Self {
        let matrix = Matrix::Host(Arc::new(packed));
        Self { matrix, device: device.clone().without_autodiff() }
    }

    fn on_device(matrix: DeviceMatrix, device: &Device) -> Self {
        let matrix = Matrix::Device(Arc::new(matrix));
        Self { matrix, device: device.clone().without_autodiff() }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match &self.matrix {
            Matrix::Host(packed) => packed.dims(),
            Matrix::Device(matrix) => matrix.dims(),
        }
    }

    /// The device, without autodiff.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Bits per element, excluding scales and minima.
    pub fn bits(&self) -> usize {
        match &self.matrix {
            Matrix::Host(packed) => packed.bits(),
            Matrix::Device(matrix) => matrix.bits(),
        }
    }

    /// Size in bytes, including scales and minima.
    pub fn bytes(&self) -> usize {
        match &self.matrix {
            Matrix::Host(packed) => packed.bytes(),
            Matrix::Device(matrix) => matrix.bytes(),
        }
    }

    /// The whole matrix in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        match &self.matrix {
            Matrix::Host(packed) => self.to_tensor(packed.to_dense(), self.dims()),
            Matrix::Device(matrix) => device_matrices::to_dense(matrix),
        }
    }

    /// The given rows in f32, in the given order.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`
    ///
    /// # Panics
    /// If a row is out of range and the matrix is in host memory. On GPUs the last row is taken instead.
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let packed = match &self.matrix {
            Matrix::Host(packed) => packed,
            Matrix::Device(matrix) => return device_matrices::select_rows(rows, matrix.clone()),
        };
        let [_rows, columns] = self.dims();
        let rows = to_host_indices(rows);
        let mut values = vec![0.0; rows.len() * columns];
        for (&row, to) in rows.iter().zip(values.chunks_exact_mut(columns)) {
            packed.read_row(row, to);
        }
        self.to_tensor(values, [rows.len(), columns])
    }

    fn to_tensor(&self, values: Vec<f32>, dims: [usize; 2]) -> Tensor<2> {
        // `from_elems` takes the vector over without a copy.
        let data = TensorData::from_bytes(Bytes::from_elems(values), dims, DType::F32);
        Tensor::from_data(data, &self.device)
    }

    fn host(&self) -> Option<Arc<PackedMatrix>> {
        match &self.matrix {
            Matrix::Host(packed) => Some(packed.clone()),
            Matrix::Device(_) => None,
        }
    }

    fn on_gpu(&self) -> Option<Arc<DeviceMatrix>> {
        match &self.matrix {
            Matrix::Host(_) => None,
            Matrix::Device(matrix) => Some(matrix.clone()),
        }
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
/// If the weights are not on one device or differ in their number of columns, or there are no weights.
pub fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: &[&PackedWeight],
) -> Tensor<2> {
    if let Some(weights) = weights.iter().map(|weight| weight.host()).collect() {
        return backend::linears(input, residual, weights);
    }
    let weights = weights.iter().map(|weight| weight.on_gpu()).collect::<Option<Vec<_>>>();
    device_matrices::linears(input, residual, weights.expect("the weights are on one device"))
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
/// If the device is not fused and has no [`GpuKernel::CrossEntropy`](crate::GpuKernel::CrossEntropy), or the
/// number of labels differs from the number of rows. On CPUs also if a label is out of range; on GPUs labels
/// are not checked.
pub fn cross_entropy(hidden: Tensor<2>, head: &PackedWeight, labels: Tensor<1, Int>) -> Tensor<1> {
    match &head.matrix {
        Matrix::Host(packed) => {
            backend::cross_entropy(hidden, packed.clone(), Arc::new(to_host_indices(labels)))
        }
        Matrix::Device(matrix) => gpu::cross_entropy(hidden, matrix.clone(), labels),
    }
}
