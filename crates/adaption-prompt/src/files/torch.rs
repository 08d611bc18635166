//! Arrays in a PyTorch file.

use std::path::Path;

use burn::tensor::{DType, TensorData};
use checkpoint::ByteSource;
use checkpoint::torch::{TensorInfo, TorchFile, Value, to_bytes};

use super::tensors::{HostTensor, HostTensors, check_finite};
use crate::error::{Error, Result};

/// Names that checkpoints wrap their tensors in.
const WRAPPERS: [&str; 2] = ["model.", "state_dict."];

/// Every tensor of a file that `wanted` asks for, without a wrapper's name in front.
///
/// A checkpoint may hold a whole model beside the adapter: what is not wanted is not read.
pub(crate) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<HostTensors> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    let names = file.tensors().keys().map(|name| (name, strip_checkpoint_prefix(name).to_owned()));
    read_tensors(&file, path, names.filter(|(_, bare)| wanted(bare)))
}

/// Every tensor of a file that holds nothing but an adapter with PEFT's names.
pub(crate) fn read_peft(path: &Path) -> Result<HostTensors> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    // Here `model.` may be the beginning of a name.
    let bare = |name: &str| {
        let wrapped = strip_checkpoint_prefix(name);
        if wrapped.starts_with("base_model.") { wrapped.to_owned() } else { name.to_owned() }
    };
    let names = file.tensors().keys().map(|name| (name, bare(name)));
    read_tensors(&file, path, names)
}

/// The tensors of some names, under other names.
fn read_tensors<'a>(
    file: &TorchFile,
    path: &Path,
    names: impl Iterator<Item = (&'a String, String)>,
) -> Result<HostTensors> {
    // A file's tensors may share their numbers, but an adapter's do not: few bytes must not become
    // many arrays.
    let most = file.len_bytes().saturating_mul(16).saturating_add(1 << 20);
    let mut left = most;
    let mut arrays = HostTensors::new();
    for (name, bare) in names {
        let info = &file.tensors()[name];
        let bytes = info.shape.iter().fold(4_u64, |n, &dim| n.saturating_mul(dim as u64));
        left = left.checked_sub(bytes).ok_or_else(|| Error::TensorMismatch {
            path: path.into(),
            problems: vec![format!(
                "tensors of more than {most} bytes in a file of {}",
                file.len_bytes()
            )],
        })?;
        let data = file.read(name)?.convert_dtype(DType::F32);
        let array = HostTensor::new(info.shape.clone(), data.iter::<f32>().collect());
        if arrays.insert(bare.clone(), array).is_some() {
            let problems = vec![format!("two tensors are called {bare}")];
            return Err(Error::TensorMismatch { path: path.into(), problems });
        }
    }
    if arrays.is_empty() {
        return Err(Error::NotAnAdapter {
            path: path.into(),
            reason: "no tensor in it has an adapter's name".into(),
        });
    }
    check_finite(arrays, path)
}

/// What a file says of itself beside its tensors, in a dictionary called `config`.
pub(crate) fn read_config(path: &Path) -> Result<Vec<(String, Value<TensorInfo>)>> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    Ok(match file.root().get("config") {
        Some(Value::Dict(entries)) => entries.clone(),
        _ => Vec::new(),
    })
}

/// Names and shapes of a file's tensors, without a wrapper's name in front.
pub(crate) fn tensor_shapes(path: &Path) -> Result<Vec<(String, Vec<usize>)>> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    let tensors = file.tensors().iter();
    Ok(tensors
        .map(|(name, info)| (strip_checkpoint_prefix(name).to_owned(), info.shape.clone()))
        .collect())
}

fn strip_checkpoint_prefix(name: &str) -> &str {
    WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)).unwrap_or(name)
}

/// Writes arrays as a dictionary, inside another one called `wrapper` if there is one.
pub(crate) fn write(path: &Path, arrays: HostTensors, wrapper: Option<&str>) -> Result<()> {
    let tensors = arrays
        .into_iter()
        .map(|(name, array)| (name, Value::Tensor(TensorData::new(array.values, array.shape))));
    let mut value = Value::Dict(tensors.collect());
    if let Some(wrapper) = wrapper {
        value = Value::Dict(vec![(wrapper.to_owned(), value)]);
    }
    checkpoint::files::write(path, &to_bytes(&value)?)?;
    Ok(())
}
