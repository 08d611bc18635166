//! Stand-ins for matrices in the memory of GPUs, in a build without a backend for GPUs. No device
//! supports them then, so there are none.

use std::convert::Infallible;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::cpu::packed_matrix::QuantizedMatrix;

#[derive(Debug, Clone)]
pub(crate) struct DeviceMatrix(Infallible);

pub(crate) fn is_supported(_device: &Device) -> bool {
    false
}

impl DeviceMatrix {
    pub fn new(_data: TensorData, device: &Device) -> Self {
        panic!("{device:?} has no packed weights")
    }

    pub fn from_quantized(_matrix: &QuantizedMatrix, _shape: [usize; 2], device: &Device) -> Self {
        panic!("{device:?} has no packed weights")
    }

    pub fn dims(&self) -> [usize; 2] {
        match self.0 {}
    }

    pub fn bits(&self) -> usize {
        match self.0 {}
    }

    pub fn bytes(&self) -> usize {
        match self.0 {}
    }
}

pub(crate) fn linears(
    _input: Tensor<2>,
    _residual: Option<Tensor<2>>,
    weights: Vec<Arc<DeviceMatrix>>,
) -> Tensor<2> {
    match weights[0].0 {}
}

pub(crate) fn select_rows(_rows: Tensor<1, Int>, weight: Arc<DeviceMatrix>) -> Tensor<2> {
    match weight.0 {}
}

pub(crate) fn to_dense(weight: &DeviceMatrix) -> Tensor<2> {
    match weight.0 {}
}
