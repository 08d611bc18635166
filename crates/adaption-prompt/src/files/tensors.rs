//! Named arrays of f32: an adapter's tensors, whichever file holds them.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::SafetensorsFile;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::{Error, Result};

/// Shape and numbers of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl HostTensor {
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values }
    }

    /// Its shape without dimensions of size one: formats differ there.
    pub fn squeezed(&self) -> Vec<usize> {
        self.shape.iter().copied().filter(|&size| size != 1).collect()
    }

    fn from_tensor_data(data: TensorData) -> Self {
        let shape = data.shape().to_vec();
        Self::new(shape, data.convert_dtype(DType::F32).iter::<f32>().collect())
    }
}

/// Whether two arrays are the matrices of a low-rank product: A is `[rank, in]`, B `[out, rank]`.
pub(crate) fn is_lora_pair(a: &HostTensor, b: &HostTensor, rank: usize) -> bool {
    matches!(a.shape[..], [rows, _] if rows == rank)
        && matches!(b.shape[..], [_, columns] if columns == rank)
}

/// Arrays by name.
pub(crate) type HostTensors = BTreeMap<String, HostTensor>;

/// Every tensor of a safetensors file.
pub(crate) fn read_safetensors(file: &SafetensorsFile, path: &Path) -> Result<HostTensors> {
    let mut arrays = HostTensors::new();
    for name in file.shapes().keys() {
        arrays.insert(name.clone(), HostTensor::from_tensor_data(file.read(name)?));
    }
    check_finite(arrays, path)
}

/// Refuses NaN and infinite numbers.
pub(crate) fn check_finite(arrays: HostTensors, path: &Path) -> Result<HostTensors> {
    let bad = arrays.iter().filter(|(_, array)| array.values.iter().any(|x| !x.is_finite()));
    let problems = bad.map(|(name, _)| format!("{name} has NaN or infinite numbers"));
    let problems = problems.collect::<Vec<_>>();
    if problems.is_empty() {
        Ok(arrays)
    } else {
        Err(Error::TensorMismatch { path: path.into(), problems })
    }
}

/// The bytes of a safetensors file, as PEFT writes it.
pub(crate) fn to_safetensors(arrays: &HostTensors) -> Vec<u8> {
    let bytes = arrays.iter().map(|(name, array)| {
        let bytes = array.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
        (name, &array.shape, bytes)
    });
    let bytes = bytes.collect::<Vec<_>>();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes)
            .expect("shape and bytes belong together");
        (name.as_str(), view)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).expect("the views are valid")
}
