//! Tensors of the CPU backend as slices of f32, and back.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// The same tensor with its numbers one behind the other.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// All numbers of a contiguous tensor.
///
/// # Panics
/// If it is not, or not f32.
pub(super) fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

/// Its dimensions.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.layout().shape().dims()
}

/// A new tensor.
pub(super) fn new<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    with_shape(values, Shape::from(dims))
}

/// A new tensor of another one's shape.
pub(super) fn like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    with_shape(values, other.layout().shape().clone())
}

fn with_shape(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}
