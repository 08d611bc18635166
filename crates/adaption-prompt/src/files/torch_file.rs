//! Adapter tensors in PyTorch files.

use std::path::Path;

use burn::tensor::TensorData;
use checkpoint::ByteSource;
use checkpoint::torch::{TensorInfo, TorchFile, Value, to_bytes};

use crate::error::{Error, Result};
use crate::tensors::host_tensor::{HostTensor, HostTensors, check_finite};

/// Prefixes of tensor names in training checkpoints.
const CHECKPOINT_PREFIXES: [&str; 2] = ["model.", "state_dict."];

/// The tensors of a file whose names are accepted by `includes`, without a checkpoint's prefix.
///
/// A checkpoint may contain a whole model; the other tensors are not read.
pub(crate) fn read(path: &Path, includes: impl Fn(&str) -> bool) -> Result<HostTensors> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    let names = file.tensors().keys().map(|name| (name, strip_checkpoint_prefix(name).to_owned()));
    read_tensors(&file, path, names.filter(|(_, name)| includes(name)))
}

/// Every tensor of a file with PEFT's tensor names.
pub(crate) fn read_peft(path: &Path) -> Result<HostTensors> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    // `model.` may also be a part of PEFT's name.
    let strip = |name: &str| {
        let stripped = strip_checkpoint_prefix(name);
        if stripped.starts_with("base_model.") { stripped.to_owned() } else { name.to_owned() }
    };
    let names = file.tensors().keys().map(|name| (name, strip(name)));
    read_tensors(&file, path, names)
}

/// The tensors of some names, under other names.
fn read_tensors<'a>(
    file: &TorchFile,
    path: &Path,
    names: impl Iterator<Item = (&'a String, String)>,
) -> Result<HostTensors> {
    // Tensors may share storage, so a small file can describe many large tensors. Those of an
    // adapter do not.
    let max_bytes = file.len_bytes().saturating_mul(16).saturating_add(1 << 20);
    let mut remaining_bytes = max_bytes;
    let mut tensors = HostTensors::new();
    let mismatch = |problem| Error::TensorMismatch { path: path.into(), problems: vec![problem] };
    for (file_name, name) in names {
        let info = &file.tensors()[file_name];
        let bytes = info.shape.iter().fold(4_u64, |n, &dim| n.saturating_mul(dim as u64));
        remaining_bytes = remaining_bytes.checked_sub(bytes).ok_or_else(|| {
            let len = file.len_bytes();
            mismatch(format!("tensors of more than {max_bytes} bytes in a file of {len}"))
        })?;
        let tensor = HostTensor::from_tensor_data(file.read(file_name)?);
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(mismatch(format!("two tensors are called {name}")));
        }
    }
    if tensors.is_empty() {
        return Err(Error::NotAnAdapter {
            path: path.into(),
            reason: "no tensor in it has an adapter's name".into(),
        });
    }
    check_finite(tensors, path)
}

/// The settings of a file: its dictionary `config`, if it has one.
pub(crate) fn read_config(path: &Path) -> Result<Vec<(String, Value<TensorInfo>)>> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    Ok(match file.root().get("config") {
        Some(Value::Dict(entries)) => entries.clone(),
        _ => Vec::new(),
    })
}

/// Names and shapes of a file's tensors, without a checkpoint's prefix.
pub(crate) fn tensor_shapes(path: &Path) -> Result<Vec<(String, Vec<usize>)>> {
    let file = TorchFile::open(ByteSource::open(path)?)?;
    let tensors = file.tensors().iter();
    let tensors =
        tensors.map(|(name, info)| (strip_checkpoint_prefix(name).to_owned(), info.shape.clone()));
    Ok(tensors.collect())
}

fn strip_checkpoint_prefix(name: &str) -> &str {
    CHECKPOINT_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Writes tensors as a dictionary, as the value of `wrapper` in another dictionary if it is given.
pub(crate) fn write(path: &Path, tensors: HostTensors, wrapper: Option<&str>) -> Result<()> {
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (name, Value::Tensor(TensorData::new(tensor.values, tensor.shape))));
    let mut value = Value::Dict(tensors.collect());
    if let Some(wrapper) = wrapper {
        value = Value::Dict(vec![(wrapper.to_owned(), value)]);
    }
    checkpoint::files::write(path, &to_bytes(&value)?)?;
    Ok(())
}
