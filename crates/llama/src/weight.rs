//! A large matrix of a model: dense, or in blocks of few bits.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::quantised::Quantised;

/// A matrix of a model, `[rows, columns]`.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a model has a few hundred")]
pub enum Weight {
    /// In f32, f16 or bf16.
    Dense(Param<Tensor<2>>),
    /// In 8 or 4 bits. Frozen: it is no parameter.
    Quantised(Quantised),
}

impl From<Tensor<2>> for Weight {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(tensor))
    }
}

impl From<Quantised> for Weight {
    fn from(quantised: Quantised) -> Self {
        Self::Quantised(quantised)
    }
}

impl Weight {
    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Dense(tensor) => tensor.val().dims(),
            Self::Quantised(quantised) => quantised.dims(),
        }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        match self {
            Self::Dense(tensor) => tensor.val().device(),
            Self::Quantised(quantised) => quantised.device(),
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
            Self::Quantised(quantised) => quantised.bytes(),
        }
    }

    /// The whole matrix: a dense one as it is, a quantised one in f32.
    pub fn to_dense(&self) -> Tensor<2> {
        match self {
            Self::Dense(tensor) => tensor.val(),
            Self::Quantised(quantised) => {
                let [rows, _columns] = quantised.dims();
                quantised.rows(0, rows)
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
            Self::Quantised(quantised) => quantised.select(rows),
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
            Self::Quantised(quantised) => quantised.product(input),
        };
        output.reshape(dims)
    }
}
