//! Products of many rows with a matrix of floats by Burn's own matmul: in f32, and in f16 or bf16 where
//! the device has matrix units (tensor cores, cooperative matrices) that multiply them with sums in f32.
//!
//! The matrix is not copied: Burn reads the words as a tensor of the stored type. The input is rounded to
//! that type.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::{ElemType, FloatKind};

use super::device_matrix::DeviceMatrix;
use super::gemm::Direction;
use super::words::{Element, PIECE};

/// The type in which Burn multiplies with the matrix; `None` if the kernels here do.
pub(super) fn burn_dtype(input: &CubeTensor, matrix: &DeviceMatrix) -> Option<DType> {
    match matrix.format.element {
        Element::F32 => Some(DType::F32),
        Element::F16 if has_matrix_units(input, FloatKind::F16) => Some(DType::F16),
        Element::Bf16 if has_matrix_units(input, FloatKind::BF16) => Some(DType::BF16),
        _ => None,
    }
}

/// The product in f32, `[n, rows]` or `[n, columns]`.
pub(super) fn dense_product(
    input: CubeTensor,
    matrix: &DeviceMatrix,
    dtype: DType,
    direction: Direction,
) -> CubeTensor {
    let row = matrix.columns.next_multiple_of(PIECE);
    let (shape, strides) = match direction {
        Direction::Forward => ([matrix.columns, matrix.rows], [1, row]),
        Direction::Backward => ([matrix.rows, matrix.columns], [row, 1]),
    };
    let mut view = matrix.words.clone();
    view.meta.shape = Shape::from(shape);
    view.meta.strides = strides.into();
    view.dtype = dtype;
    let input = if dtype == DType::F32 { input } else { cast(input, dtype) };
    matmul(input, view, None, MatmulStrategy::default(), DType::F32)
        .expect("Burn multiplies matrices of every shape")
}

/// Whether a device has matrix units for an element type, with sums in f32.
fn has_matrix_units(tensor: &CubeTensor, element: FloatKind) -> bool {
    let [element, sum] = [element, FloatKind::F32].map(ElemType::Float);
    let configs = &tensor.client.properties().features.matmul.cmma;
    configs
        .iter()
        .any(|config| [config.a_type, config.b_type] == [element, element] && config.cd_type == sum)
}
