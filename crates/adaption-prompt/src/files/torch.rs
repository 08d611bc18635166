//! Arrays in a PyTorch file.

use std::path::Path;

use burn::tensor::{DType, TensorData};
use llama::torch::{TorchFile, Value, to_bytes};
use llama::weights::Bytes;

use super::tensors::{Array, Arrays, finite};
use crate::error::{Error, Result};

/// Names that checkpoints wrap their tensors in.
const WRAPPERS: [&str; 2] = ["model.", "state_dict."];

/// Every tensor of a file that `wanted` asks for, without a wrapper's name in front.
///
/// A checkpoint may hold a whole model beside the adapter: what is not wanted is not read.
pub(crate) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Arrays> {
    let file = TorchFile::open(Bytes::open(path)?)?;
    let mut arrays = Arrays::new();
    for (name, info) in file.tensors() {
        let bare = bare(name);
        if !wanted(bare) {
            continue;
        }
        let data = file.read(name)?.convert_dtype(DType::F32);
        arrays.insert(bare.into(), Array::new(info.shape.clone(), data.iter::<f32>().collect()));
    }
    if arrays.is_empty() {
        return Err(Error::NotAnAdapter {
            path: path.into(),
            reason: "no tensor in it has an adapter's name".into(),
        });
    }
    finite(arrays, path)
}

/// Names and shapes of a file's tensors, without a wrapper's name in front.
pub(crate) fn names(path: &Path) -> Result<Vec<(String, Vec<usize>)>> {
    let file = TorchFile::open(Bytes::open(path)?)?;
    let tensors = file.tensors().iter();
    Ok(tensors.map(|(name, info)| (bare(name).to_owned(), info.shape.clone())).collect())
}

fn bare(name: &str) -> &str {
    WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)).unwrap_or(name)
}

/// Writes arrays as a dictionary, inside another one called `wrapper` if there is one.
pub(crate) fn write(path: &Path, arrays: Arrays, wrapper: Option<&str>) -> Result<()> {
    let tensors = arrays
        .into_iter()
        .map(|(name, array)| (name, Value::Tensor(TensorData::new(array.values, array.shape))));
    let mut value = Value::Dict(tensors.collect());
    if let Some(wrapper) = wrapper {
        value = Value::Dict(vec![(wrapper.to_owned(), value)]);
    }
    llama::files::write(path, &to_bytes(&value)?)?;
    Ok(())
}
