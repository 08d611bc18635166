//! Conversions between Burn's tensors and those of its CubeCL backend.

use std::any::{Any, TypeId};

use burn::backend::Cube;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{BufferArg, ElemType};

/// Whether the backend's tensors are buffers. With Burn's feature `fusion`, which another crate of a
/// build may enable, they are operations that have not run yet, and no kernel here is used.
pub(super) fn is_unfused_backend() -> bool {
    TypeId::of::<FloatTensor<Cube>>() == TypeId::of::<CubeTensor>()
}

/// The tensor as the kernels read it: contiguous, in f32.
///
/// # Panics
/// If the tensor is not f32.
pub(super) fn contiguous(tensor: FloatTensor<Cube>) -> CubeTensor {
    let tensor: CubeTensor = cast(tensor);
    assert_eq!(tensor.dtype, DType::F32, "fused operations are computed in f32");
    into_contiguous(tensor)
}

/// A contiguous tensor of integers, of any type.
pub(super) fn contiguous_int(tensor: IntTensor<Cube>) -> CubeTensor {
    into_contiguous(cast(tensor))
}

/// The type of the elements as kernels take it.
pub(super) fn elem_type(tensor: &CubeTensor) -> ElemType {
    dtype_to_storage_type(tensor.dtype)
}

/// The tensor as Burn's backend takes it.
pub(super) fn into_float(tensor: CubeTensor) -> FloatTensor<Cube> {
    cast(tensor)
}

/// The dimensions.
pub(super) fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.meta.shape().dims()
}

/// A tensor of f32 with uninitialized elements, on the device of another.
pub(super) fn empty<const D: usize>(like: &CubeTensor, dims: [usize; D]) -> CubeTensor {
    empty_with_shape(like, Shape::from(dims))
}

/// A tensor of f32 with uninitialized elements, with device and shape of another.
pub(super) fn empty_like(like: &CubeTensor) -> CubeTensor {
    empty_with_shape(like, like.meta.shape().clone())
}

fn empty_with_shape(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

/// The elements of a contiguous tensor as an argument of a kernel.
pub(super) fn buffer(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// A value as what it is: types that are equal in builds without fusion.
fn cast<A: 'static, B: 'static>(value: A) -> B {
    let mut value = Some(value);
    let value = (&mut value as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take);
    value.expect("kernels of GPUs run in builds without fusion")
}
