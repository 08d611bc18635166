//! A large matrix of a model: packed for the kernels, dense, or quantized.
//!
//! - On CPUs with fused kernels and on GPUs, matrices are packed once at load, in f32, bf16, f16, or 8 or 4
//!   bits, for kernels that compute `x · Wᵀ` and `dy · W` from them as they are.
//! - On other devices they are plain tensors in f32, bf16 or f16, or a [`QuantizedWeight`].
//!
//! Packed and quantized weights are frozen; training all weights of a model needs dense ones
//! ([`Llama::into_parameters`](super::Llama::into_parameters)).

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoint::{BlockOffset, QuantizedBlocks};
use kernels::{PackedWeight, QuantizedMatrix, has_packed_weights, is_fused, linears};

use crate::quantized::QuantizedWeight;

/// A matrix of a model, `[rows, columns]`.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a model has a few hundred")]
pub enum Weight {
    /// In f32, f16 or bf16. A parameter, trainable on an autodiff device.
    Dense(Param<Tensor<2>>),
    /// In any precision, packed for the kernels of CPUs and GPUs. Frozen: not a parameter.
    Packed(PackedWeight),
    /// In 8 or 4 bits, for other devices. Frozen: not a parameter.
    Quantized(QuantizedWeight),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(tensor))
    }
}

impl Weight {
    /// Uploads a matrix to a device, in the data's precision; packed if the device has packed weights.
    ///
    /// # Panics
    /// If the data is not a matrix.
    pub fn frozen(data: TensorData, device: &Device) -> Self {
        if has_packed_weights(device) {
            return Self::Packed(PackedWeight::new(data, device));
        }
        let dtype = data.dtype();
        Tensor::<2>::from_data(data, (device, dtype)).into()
    }

    /// Uploads a matrix of quantized blocks to a device, without loss.
    ///
    /// # Panics
    /// If lengths do not match the shape, or a value exceeds its bit width.
    pub fn from_blocks(blocks: QuantizedBlocks, device: &Device) -> Self {
        if !has_packed_weights(device) {
            return Self::Quantized(QuantizedWeight::new(blocks, device));
        }
        let (mins, zero_point) = match &blocks.offset {
            BlockOffset::ZeroPoint(zero_point) => (None, *zero_point),
            BlockOffset::Mins(mins) => (Some(&mins[..]), 0),
        };
        let matrix = QuantizedMatrix {
            quants: &blocks.quants,
            scales: &blocks.scales,
            mins,
            zero_point,
            bits: blocks.bits.count(),
            block_len: blocks.block_len,
        };
        Self::Packed(PackedWeight::from_quantized(&matrix, blocks.shape, device))
    }

    /// The matrix as a trainable parameter; a quantized one in f32.
    pub fn into_parameter(self) -> Self {
        match self {
            Self::Dense(_) => self,
            frozen => frozen.to_dense().into(),
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(tensor) => tensor.val().dims(),
            Self::Packed(packed) => packed.dims(),
            Self::Quantized(quantized) => quantized.dims(),
        }
    }

    /// Device of the matrix.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(tensor) => tensor.val().device(),
            Self::Packed(packed) => packed.device(),
            Self::Quantized(quantized) => quantized.device(),
        }
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(tensor) => {
                let tensor = tensor.val();
                let [rows, columns] = tensor.dims();
                rows * columns * tensor.dtype().size()
            }
            Self::Packed(packed) => packed.bytes(),
            Self::Quantized(quantized) => quantized.bytes(),
        }
    }

    /// BitWidth per weight, without scales and minima of blocks.
    pub fn bits(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.val().dtype().size() * 8,
            Self::Packed(packed) => packed.bits(),
            Self::Quantized(quantized) => quantized.bits(),
        }
    }

    /// Whether each row of a product is a function of that row of the input alone, bit for bit, whatever the
    /// number of rows.
    pub fn computes_rows_alone(&self) -> bool {
        matches!(self, Self::Packed(packed) if is_fused(&packed.device()))
    }

    /// The whole matrix: dense weights in their precision, others in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.val(),
            Self::Packed(packed) => packed.to_dense(),
            Self::Quantized(quantized) => {
                let [rows, _columns] = quantized.dims();
                quantized.dequantize_rows(0, rows)
            }
        }
    }

    /// Selects rows.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`, f32
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.val().select(0, rows).cast(DType::F32),
            Self::Packed(packed) => packed.select(rows),
            Self::Quantized(quantized) => quantized.select(rows),
        }
    }

    /// `input · selfᵀ`. All leading dimensions of `input` are flattened into rows, so that a batch is
    /// one GEMM.
    ///
    /// # Shapes
    /// - `input`: `[..., columns]`, f32
    /// - output: `[..., rows]`, f32
    pub fn matmul_transposed<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let mut dims = input.dims();
        let [d_out, d_in] = self.dims();
        let rows = dims.iter().product::<usize>() / d_in;
        dims[D - 1] = d_out;
        let input = input.reshape([rows, d_in]);
        let output = match self {
            Self::Dense(tensor) => {
                let tensor = tensor.val();
                input.cast(tensor.dtype()).matmul(tensor.transpose()).cast(DType::F32)
            }
            Self::Packed(packed) => linears(input, None, &[packed]),
            Self::Quantized(quantized) => quantized.matmul_transposed(input),
        };
        output.reshape(dims)
    }
}
