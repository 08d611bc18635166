//! The operations of the backend extension on CubeCL's backend.

use std::sync::Arc;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Backend, BackendTensor, Cube, Dispatch, DispatchKindConversion, DispatchTensor, ExtensionType,
    backend_extension,
};
use burn::tensor::{DType, Int, Shape, Slice, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::dense::{burn_dtype, dense_product};
use super::device_matrix::DeviceMatrix;
use super::gemm::{Direction, Gemm};
use super::gemv::{MAX_ROWS, launch_gemv};
use super::rows::launch_unpack_rows;

/// A residual to add to a linear layer's output. The extension macro takes no `Option` of a tensor.
#[derive(ExtensionType)]
pub enum OptionalResidual<B: Backend> {
    None,
    Some(FloatTensor<B>),
}

/// Operations with frozen matrices in a device's memory.
#[backend_extension(Autodiff, Cube)]
pub trait MatrixOps: Backend {
    /// `input · Wᵀ` of several weights, concatenated, plus a residual.
    fn device_linears(
        input: FloatTensor<Self>,
        #[extension_type] residual: OptionalResidual<Self>,
        weights: Vec<Arc<DeviceMatrix>>,
    ) -> FloatTensor<Self>;

    /// Rows of a matrix in f32.
    fn device_rows(rows: IntTensor<Self>, weight: Arc<DeviceMatrix>) -> FloatTensor<Self>;
}

impl MatrixOps for Cube {
    fn device_linears(
        input: FloatTensor<Self>,
        residual: OptionalResidual<Self>,
        weights: Vec<Arc<DeviceMatrix>>,
    ) -> FloatTensor<Self> {
        let _span = tracing::trace_span!("linear").entered();
        let input = into_contiguous(input);
        let [n, columns] = dims(&input);
        let width = weights.iter().map(|weight| weight.rows).sum();
        for weight in &weights {
            assert_eq!(weight.columns, columns, "columns of the input and of a weight");
        }
        let residual = match residual {
            OptionalResidual::Some(residual) => Some(into_contiguous(residual)),
            OptionalResidual::None => None,
        };
        if let Some(residual) = &residual {
            assert_eq!(dims(residual), [n, width], "the residual's shape");
        }
        if n > MAX_ROWS && width > 0 && columns > 0 {
            let dtypes = weights.iter().map(|matrix| burn_dtype(&input, matrix));
            if let Some(dtypes) = dtypes.collect::<Option<Vec<_>>>() {
                let products = weights.iter().zip(dtypes).map(|(matrix, dtype)| {
                    dense_product(input.clone(), matrix, dtype, Direction::Forward)
                });
                let products = products.collect::<Vec<_>>();
                let product = match <[_; 1]>::try_from(products) {
                    Ok([product]) => product,
                    Err(products) => Self::float_cat(products, 1),
                };
                return match residual {
                    Some(residual) => Self::float_add(product, residual),
                    None => product,
                };
            }
        }
        let out = empty([n, width], &input);
        let mut column = 0;
        for matrix in weights.iter().map(AsRef::as_ref) {
            let is_empty = n == 0 || matrix.rows == 0;
            if is_empty {
            } else if n <= MAX_ROWS {
                launch_gemv(&input, matrix, residual.as_ref(), &out, column);
            } else {
                let gemm = Gemm {
                    input: &input,
                    in_column: 0,
                    matrix,
                    direction: Direction::Forward,
                    residual: residual.as_ref(),
                    add_to_output: false,
                    out: &out,
                    out_column: column,
                };
                gemm.launch();
            }
            column += matrix.rows;
        }
        out
    }

    fn device_rows(rows: IntTensor<Self>, weight: Arc<DeviceMatrix>) -> FloatTensor<Self> {
        let rows = into_contiguous(rows);
        let [n] = rows.meta.shape().dims();
        let out = empty([n, weight.columns], &weight.words);
        if n > 0 && weight.columns > 0 {
            launch_unpack_rows(&weight, Some(&rows), &out);
        }
        out
    }
}

/// `d_out · W`, summed over the weights.
pub(super) fn linears_backward(d_out: CubeTensor, weights: &[Arc<DeviceMatrix>]) -> CubeTensor {
    let _span = tracing::trace_span!("linear, backward").entered();
    let d_out = into_contiguous(d_out);
    let [n, _width] = dims(&d_out);
    if n > 0 {
        let dtypes = weights.iter().map(|matrix| burn_dtype(&d_out, matrix));
        if let Some(dtypes) = dtypes.collect::<Option<Vec<_>>>() {
            let mut column = 0;
            let products = weights.iter().zip(dtypes).map(|(matrix, dtype)| {
                let columns = Slice::from(column..column + matrix.rows);
                column += matrix.rows;
                let part = match weights.len() {
                    1 => d_out.clone(),
                    _ => Cube::float_slice(d_out.clone(), &[Slice::from(0..n), columns]),
                };
                dense_product(part, matrix, dtype, Direction::Backward)
            });
            return products.reduce(Cube::float_add).expect("there are weights");
        }
    }
    let d_input = empty([n, weights[0].columns], &d_out);
    let mut column = 0;
    for matrix in weights.iter().map(AsRef::as_ref) {
        if n > 0 && matrix.columns > 0 {
            let gemm = Gemm {
                input: &d_out,
                in_column: column,
                matrix,
                direction: Direction::Backward,
                residual: None,
                add_to_output: column > 0,
                out: &d_input,
                out_column: 0,
            };
            gemm.launch();
        }
        column += matrix.rows;
    }
    d_input
}

/// Rows and columns of a matrix.
///
/// # Panics
/// If the tensor is not a matrix.
pub(super) fn dims(tensor: &CubeTensor) -> [usize; 2] {
    tensor.meta.shape().dims()
}

/// A matrix of f32 on the device of `like`, without values.
fn empty(dims: [usize; 2], like: &CubeTensor) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(dims), DType::F32)
}

pub(crate) fn linears(
    input: Tensor<2>,
    residual: Option<Tensor<2>>,
    weights: Vec<Arc<DeviceMatrix>>,
) -> Tensor<2> {
    let residual = match residual {
        Some(residual) => OptionalResidual::Some(residual.into_dispatch()),
        None => OptionalResidual::None,
    };
    let input = input.into_dispatch();
    Tensor::from_dispatch(<Dispatch as MatrixOps>::device_linears(input, residual, weights))
}

pub(crate) fn select_rows(rows: Tensor<1, Int>, weight: Arc<DeviceMatrix>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as MatrixOps>::device_rows(rows.into_dispatch(), weight))
}

/// The whole matrix in f32.
pub(crate) fn to_dense(weight: &DeviceMatrix) -> Tensor<2> {
    let out = empty(weight.dims(), &weight.words);
    if weight.rows > 0 && weight.columns > 0 {
        launch_unpack_rows(weight, None, &out);
    }
    let out = BackendTensor::<Cube>::Float(out);
    Tensor::from_dispatch(DispatchTensor::from_backend(out))
}
