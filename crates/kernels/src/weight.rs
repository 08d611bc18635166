//! A frozen matrix that is packed for the fused operations.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Bytes, DType, Device, Int, Tensor, TensorData};

use crate::backend;
use crate::cpu::packed::{Format, Packed};

pub use crate::cpu::packed::QuantizedMatrix;

/// A matrix `[rows, columns]` in panels, in the CPU's memory, shared by its clones. It is frozen: no
/// parameter, and nothing here ever has a gradient.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    packed: Arc<Packed>,
    #[module(skip)]
    device: Device,
}

impl PackedWeight {
    /// Packs row-major numbers of f32, f16 or bf16, kept in that precision.
    ///
    /// # Panics
    /// If the device has no fused operations, or the data has another type or is no matrix.
    pub fn new(data: TensorData, device: &Device) -> Self {
        assert!(backend::is_fused(device), "{device:?} has no packed weights");
        let [rows, columns] = data.shape().dims();
        let format = match data.dtype() {
            DType::F32 => Format::F32,
            DType::BF16 => Format::Bf16,
            DType::F16 => Format::F16,
            other => panic!("a weight of {other:?}"),
        };
        let data = data.convert_dtype(DType::F32);
        let values = data.as_slice::<f32>().expect("just converted");
        Self::of(Packed::new(values, [rows, columns], format), device)
    }

    /// Packs numbers of 8 or 4 bits as they are.
    ///
    /// # Panics
    /// If the device has no fused operations, or lengths do not fit the shape.
    pub fn from_quantized(matrix: &QuantizedMatrix, shape: [usize; 2], device: &Device) -> Self {
        assert!(backend::is_fused(device), "{device:?} has no packed weights");
        Self::of(Packed::from_blocks(matrix, shape), device)
    }

    fn of(packed: Packed, device: &Device) -> Self {
        Self { packed: Arc::new(packed), device: device.clone().without_autodiff() }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        self.packed.dims()
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Bits of a number, without its share of scale and minimum.
    pub fn bits(&self) -> usize {
        self.packed.bits()
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The whole matrix, in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        self.tensor(self.packed.to_dense(), self.dims())
    }

    /// The given rows in f32, each as often as it is asked for.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let [_rows, columns] = self.dims();
        let rows = host(rows);
        let mut values = vec![0.0; rows.len() * columns];
        for (&row, to) in rows.iter().zip(values.chunks_exact_mut(columns)) {
            self.packed.read_row(row, to);
        }
        self.tensor(values, [rows.len(), columns])
    }

    fn tensor(&self, values: Vec<f32>, dims: [usize; 2]) -> Tensor<2> {
        // Handed over as it is: no copy.
        let data = TensorData::from_bytes(Bytes::from_elems(values), dims, DType::F32);
        Tensor::from_data(data, &self.device)
    }
}

/// Whole numbers on the host. They lie in the CPU's memory already: nobody waits.
#[expect(clippy::disallowed_methods, reason = "on the CPU there is nothing to wait for")]
pub(crate) fn host(numbers: Tensor<1, Int>) -> Vec<usize> {
    numbers.into_data().iter::<i64>().map(|number| number as usize).collect()
}

/// `input · Wᵀ` of several frozen matrices as one product, side by side, plus `residual`.
///
/// Gradients go to the input and the residual; weights have none.
///
/// # Shapes
/// - `input`: `[n, columns]`, f32
/// - `residual`, output: `[n, rows of all weights]`, f32
///
/// # Panics
/// If the weights have different numbers of columns, or there are none.
pub fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: &[&PackedWeight],
) -> Tensor<2> {
    let weights = weights.iter().map(|weight| weight.packed.clone()).collect();
    backend::linears(input, residual, weights)
}

/// The sum of the labels' negative log-likelihoods in nats, under the logits `hidden · headᵀ`. The
/// logits of all rows are never there at once; a gradient of `hidden` is computed in the same pass.
///
/// # Shapes
/// - `hidden`: `[n, columns]`, f32
/// - `labels`: `[n]`, rows of the head
/// - output: `[1]`
///
/// # Panics
/// If the number of labels is not that of the rows, or a label is no row of the head.
pub fn cross_entropy(hidden: Tensor<2>, head: &PackedWeight, labels: Tensor<1, Int>) -> Tensor<1> {
    backend::cross_entropy(hidden, head.packed.clone(), Arc::new(host(labels)))
}
