//! The operations of the backend extension on CubeCL's backend.

use std::sync::Arc;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Backend, BackendTensor, Cube, Dispatch, DispatchKindConversion, DispatchTensor, ExtensionType,
    backend_extension,
};
use burn::tensor::{DType, Int, Slice, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::dense::{burn_dtype, dense_product};
use super::device_matrix::DeviceMatrix;
use super::gemm::{Direction, Gemm};
use super::gemv::{MAX_ROWS, launch_gemv};
use super::rows::launch_unpack_rows;
use crate::gpu::tensors::{contiguous, contiguous_int, dims, empty, into_float};

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
        let residual = match residual {
            OptionalResidual::Some(residual) => Some(contiguous(residual)),
            OptionalResidual::None => None,
        };
        into_float(linears_forward(contiguous(input), residual, &weights))
    }

    fn device_rows(rows: IntTensor<Self>, weight: Arc<DeviceMatrix>) -> FloatTensor<Self> {
        let rows = contiguous_int(rows);
        let [n] = dims(&rows);
        let out = empty(&weight.words, [n, weight.columns]);
        if n > 0 && weight.columns > 0 {
            launch_unpack_rows(&weight, Some(&rows), &out);
        }
        into_float(out)
    }
}

/// `input · Wᵀ` of several weights, concatenated, plus a residual. All tensors are contiguous.
///
/// # Panics
/// If shapes do not match.
pub(in crate::gpu) fn linears_forward(
    input: CubeTensor,
    residual: Option<CubeTensor>,
    weights: &[Arc<DeviceMatrix>],
) -> CubeTensor {
    let _span = tracing::trace_span!("linear").entered();
    let input = into_contiguous(input);
    let [n, columns] = dims(&input);
    let width = weights.iter().map(|weight| weight.rows).sum();
    for weight in weights {
        assert_eq!(weight.columns, columns, "columns of the input and of a weight");
    }
    if let Some(residual) = &residual {
        assert_eq!(dims(residual), [n, width], "the residual's shape");
    }
    if n > MAX_ROWS
        && let Some(dtypes) = burn_dtypes(&input, weights)
    {
        let products = weights
            .iter()
            .zip(dtypes)
            .map(|(matrix, dtype)| dense_product(input.clone(), matrix, dtype, Direction::Forward));
        let product = match products.collect::<Vec<_>>() {
            mut products if products.len() == 1 => products.remove(0),
            products => CubeBackend::float_cat(products, 1),
        };
        return match residual {
            Some(residual) => CubeBackend::float_add(product, residual),
            None => product,
        };
    }
    let out = empty(&input, [n, width]);
    let mut out_column = 0;
    for matrix in weights.iter().filter(|matrix| n > 0 && matrix.rows > 0) {
        let residual = residual.as_ref();
        if n <= MAX_ROWS {
            launch_gemv(&input, matrix, residual, &out, out_column);
        } else {
            let direction = Direction::Forward;
            let (in_column, add_to_output) = (0, false);
            let (input, out) = (&input, &out);
            Gemm { input, in_column, matrix, direction, residual, add_to_output, out, out_column }
                .launch();
        }
        out_column += matrix.rows;
    }
    out
}

/// `d_out · W`, summed over the weights.
pub(in crate::gpu) fn linears_backward(
    d_out: CubeTensor,
    weights: &[Arc<DeviceMatrix>],
) -> CubeTensor {
    let _span = tracing::trace_span!("linear, backward").entered();
    let d_out = into_contiguous(d_out);
    let [n, _width] = dims(&d_out);
    if n > 0
        && let Some(dtypes) = burn_dtypes(&d_out, weights)
    {
        let mut column = 0;
        let products = weights.iter().zip(dtypes).map(|(matrix, dtype)| {
            let columns = Slice::from(column..column + matrix.rows);
            column += matrix.rows;
            let part = match weights.len() {
                1 => d_out.clone(),
                _ => CubeBackend::float_slice(d_out.clone(), &[Slice::from(0..n), columns]),
            };
            dense_product(part, matrix, dtype, Direction::Backward)
        });
        return products.reduce(CubeBackend::float_add).expect("there are weights");
    }
    let out = empty(&d_out, [n, weights[0].columns]);
    let mut in_column = 0;
    for (index, matrix) in weights.iter().enumerate().filter(|_| n > 0) {
        let (input, out) = (&d_out, &out);
        let direction = Direction::Backward;
        let (residual, add_to_output, out_column) = (None, index > 0, 0);
        Gemm { input, in_column, matrix, direction, residual, add_to_output, out, out_column }
            .launch();
        in_column += matrix.rows;
    }
    out
}

/// The types in which Burn multiplies with the weights, if it multiplies with all of them.
fn burn_dtypes(input: &CubeTensor, weights: &[Arc<DeviceMatrix>]) -> Option<Vec<DType>> {
    let dtypes = weights.iter().map(|matrix| match matrix.dims() {
        [0, _] | [_, 0] => None,
        _ => burn_dtype(input, matrix),
    });
    dtypes.collect()
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
    let out = empty(&weight.words, weight.dims());
    if weight.rows > 0 && weight.columns > 0 {
        launch_unpack_rows(weight, None, &out);
    }
    let out = BackendTensor::<Cube>::Float(into_float(out));
    Tensor::from_dispatch(DispatchTensor::from_backend(out))
}
