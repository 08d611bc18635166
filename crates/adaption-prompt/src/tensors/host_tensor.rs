//! Named f32 tensors in host memory, independent of the file format.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::SafetensorsFile;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::{Error, Result};

/// Shape and values of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Tensors by name.
pub(crate) type HostTensors = BTreeMap<String, HostTensor>;

impl HostTensor {
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values }
    }

    /// The shape without dimensions of size one, in which formats differ.
    pub fn squeezed(&self) -> Vec<usize> {
        self.shape.iter().copied().filter(|&size| size != 1).collect()
    }

    pub fn from_tensor_data(data: TensorData) -> Self {
        let shape = data.shape().to_vec();
        Self::new(shape, data.convert_dtype(DType::F32).iter::<f32>().collect())
    }
}

/// Every tensor of a safetensors file.
pub(crate) fn read_safetensors(file: &SafetensorsFile, path: &Path) -> Result<HostTensors> {
    let mut tensors = HostTensors::new();
    for name in file.shapes().keys() {
        tensors.insert(name.clone(), HostTensor::from_tensor_data(file.read(name)?));
    }
    check_finite(tensors, path)
}

/// Refuses NaN and infinite values.
pub(crate) fn check_finite(tensors: HostTensors, path: &Path) -> Result<HostTensors> {
    let bad = tensors.iter().filter(|(_, tensor)| tensor.values.iter().any(|x| !x.is_finite()));
    let problems = bad.map(|(name, _)| format!("{name} has NaN or infinite numbers"));
    let problems = problems.collect::<Vec<_>>();
    if problems.is_empty() {
        Ok(tensors)
    } else {
        Err(Error::TensorMismatch { path: path.into(), problems })
    }
}

/// The bytes of a safetensors file, as PEFT writes it.
pub(crate) fn to_safetensors(tensors: &HostTensors) -> Vec<u8> {
    let bytes = tensors.iter().map(|(name, tensor)| {
        let bytes = tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        (name, &tensor.shape, bytes)
    });
    let bytes = bytes.collect::<Vec<_>>();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes)
            .expect("shape and number of bytes agree");
        (name.as_str(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).expect("the views are valid")
}
