//! Conversions between tensors of the flex backend and slices of f32.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// The tensor with contiguous elements; a copy only if they are not contiguous yet.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The elements of a contiguous tensor.
///
/// # Panics
/// If the tensor is not contiguous or not f32.
pub(super) fn as_slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// The tensor's dimensions.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.layout().shape().dims()
}

/// A tensor of the given elements and shape.
pub(super) fn from_vec<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    with_shape(values, Shape::from(dims))
}

/// A tensor of the given elements in the shape of `other`.
pub(super) fn from_vec_like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    with_shape(values, other.layout().shape().clone())
}

fn with_shape(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}
