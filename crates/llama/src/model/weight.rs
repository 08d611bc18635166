//! A large matrix of a model: packed for fused products, dense, or in blocks of few bits.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoint::{BlockOffset, QuantizedBlocks};
use kernels::{PackedWeight, QuantizedMatrix, is_fused, linears};

use crate::quantized::QuantizedWeight;

/// A matrix of a model, `[rows, columns]`.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a model has a few hundred")]
pub enum Weight {
    /// In f32, f16 or bf16. A parameter, which can learn.
    Dense(Param<Tensor<2>>),
    /// In any precision, laid out for the fused products of CPUs. Frozen: it is no parameter.
    Packed(PackedWeight),
    /// In 8 or 4 bits, for other devices. Frozen as well.
    Quantized(QuantizedWeight),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(tensor))
    }
}

impl Weight {
    /// A frozen matrix on a device, in the data's precision.
    ///
    /// # Panics
    /// If the data is no matrix.
    pub fn frozen(data: TensorData, device: &Device) -> Self {
        if is_fused(device) {
            return Self::Packed(PackedWeight::new(data, device));
        }
        let dtype = data.dtype();
        Tensor::<2>::from_data(data, (device, dtype)).into()
    }

    /// A frozen matrix in blocks of few bits on a device, as it is.
    ///
    /// # Panics
    /// If the lengths do not fit the shape, or a number its width.
    pub fn from_blocks(blocks: QuantizedBlocks, device: &Device) -> Self {
        if !is_fused(device) {
            return Self::Quantized(QuantizedWeight::new(blocks, device));
        }
        let (mins, zero) = match &blocks.offset {
            BlockOffset::Zero(zero) => (None, *zero),
            BlockOffset::Mins(mins) => (Some(&mins[..]), 0),
        };
        let matrix = QuantizedMatrix {
            quants: &blocks.quants,
            scales: &blocks.scales,
            mins,
            zero_point: zero,
            bits: blocks.bits.count(),
            block_len: blocks.block_len,
        };
        Self::Packed(PackedWeight::from_quantized(&matrix, blocks.shape, device))
    }

    /// The same matrix as a parameter, which can learn; a quantized one in f32.
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

    /// Where it lives.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(tensor) => tensor.val().device(),
            Self::Packed(packed) => packed.device(),
            Self::Quantized(quantized) => quantized.device(),
        }
    }

    /// Bytes that it holds.
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

    /// Bits of a number, without its share of a block's scale and minimum.
    pub fn bits(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.val().dtype().size() * 8,
            Self::Packed(packed) => packed.bits(),
            Self::Quantized(quantized) => quantized.bits(),
        }
    }

    /// The whole matrix: a dense one as it is, any other in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.val(),
            Self::Packed(packed) => packed.to_dense(),
            Self::Quantized(quantized) => {
                let [rows, _columns] = quantized.dims();
                quantized.rows(0, rows)
            }
        }
    }

    /// The given rows.
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

    /// `input · selfᵀ` with all leading dimensions folded into rows: one large product instead of
    /// one for each row of the batch.
    ///
    /// # Shapes
    /// - `input`: `[..., columns]`, f32
    /// - output: `[..., rows]`, f32
    pub fn product<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
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
            Self::Quantized(quantized) => quantized.product(input),
        };
        output.reshape(dims)
    }
}
