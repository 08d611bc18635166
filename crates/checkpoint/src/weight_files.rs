//! Safetensors and PyTorch files as one source: a single file or shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;

use crate::byte_source::ByteSource;
use crate::element_type::{ElementType, f64_to_f32};
use crate::error::{Error, Result};
use crate::file_kind::FileKind;
use crate::safetensors::SafetensorsFile;
use crate::tensor_source::{TensorSource, equal_values};
use crate::torch::TorchFile;

/// A weight file.
#[derive(Debug)]
pub enum WeightFile {
    /// A safetensors file.
    Safetensors(SafetensorsFile),
    /// A PyTorch file, such as `pytorch_model.bin`.
    Torch(TorchFile),
}

impl WeightFile {
    /// Opens a file in either format, detected by content.
    ///
    /// # Errors
    /// As [`SafetensorsFile::new`] and [`TorchFile::open`]; as [`ByteSource::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let bytes = ByteSource::open(path)?;
        let named = bytes.path().extension().is_some_and(|extension| extension == "safetensors");
        match FileKind::of(&bytes)? {
            FileKind::Torch => Ok(Self::Torch(TorchFile::open(bytes)?)),
            // The name decides the format of a damaged file.
            FileKind::Other | FileKind::Gguf if !named => Ok(Self::Torch(TorchFile::open(bytes)?)),
            _ => Ok(Self::Safetensors(SafetensorsFile::new(bytes)?)),
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Torch(file) => file.path(),
        }
    }

    /// File size.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Safetensors(file) => file.len_bytes(),
            Self::Torch(file) => file.len_bytes(),
        }
    }

    /// Shape of every tensor by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        match self {
            Self::Safetensors(file) => file.shapes().clone(),
            Self::Torch(file) => {
                let tensors = file.tensors().iter();
                tensors.map(|(name, info)| (name.clone(), info.shape.clone())).collect()
            }
        }
    }

    /// Element type of every tensor by name.
    pub fn dtypes(&self) -> BTreeMap<String, ElementType> {
        match self {
            Self::Safetensors(file) => file.dtypes(),
            Self::Torch(file) => {
                let tensors = file.tensors().iter();
                tensors.map(|(name, info)| (name.clone(), info.dtype)).collect()
            }
        }
    }

    fn dtype(&self, name: &str) -> Option<ElementType> {
        match self {
            Self::Safetensors(file) => file.dtype(name),
            Self::Torch(file) => file.tensors().get(name).map(|info| info.dtype),
        }
    }

    /// One tensor in row-major order, as f32, f16 or bf16.
    ///
    /// # Errors
    /// As [`SafetensorsFile::read`], for either format.
    pub fn read(&self, name: &str) -> Result<TensorData> {
        match self {
            Self::Safetensors(file) => file.read(name),
            Self::Torch(file) => file.read_floats(name),
        }
    }

    /// Whether a tensor is bitwise identical to one of another file or of this one, with the same shape and
    /// type.
    fn is_identical(&self, name: &str, other: &Self, theirs: &str) -> Result<bool> {
        match (self, other) {
            (Self::Safetensors(one), Self::Safetensors(two)) => one.is_identical(name, two, theirs),
            (Self::Torch(one), Self::Torch(two)) => one.is_identical(name, two, theirs),
            _ => Ok(false),
        }
    }
}

impl From<SafetensorsFile> for WeightFile {
    fn from(file: SafetensorsFile) -> Self {
        Self::Safetensors(file)
    }
}

impl From<TorchFile> for WeightFile {
    fn from(file: TorchFile) -> Self {
        Self::Torch(file)
    }
}

/// All weight files of a model.
#[derive(Debug)]
pub struct WeightFiles {
    path: PathBuf,
    files: Vec<WeightFile>,
    shapes: BTreeMap<String, Vec<usize>>,
    /// Index of the file of each tensor.
    file_of: BTreeMap<String, usize>,
}

impl WeightFiles {
    /// The tensors of one or several files; `path` is their name in messages. A tensor may be in two files, if
    /// it is bitwise identical.
    ///
    /// # Errors
    /// [`Error::Format`] if two files hold different tensors of one name; [`Error::Read`].
    pub fn new(path: impl Into<PathBuf>, files: Vec<WeightFile>) -> Result<Self> {
        let path = path.into();
        let mut shapes = BTreeMap::new();
        let mut file_of = BTreeMap::<String, usize>::new();
        for (index, file) in files.iter().enumerate() {
            for (name, shape) in file.shapes() {
                let Some(&before) = file_of.get(&name) else {
                    shapes.insert(name.clone(), shape);
                    file_of.insert(name, index);
                    continue;
                };
                if !files[before].is_identical(&name, file, &name)? {
                    let [one, two] = [before, index].map(|index| files[index].path().display());
                    let reason = format!("tensor {name} is in {one} and in {two}, and differs");
                    return Err(Error::Format { path, format: "set of weights", reason });
                }
            }
        }
        Ok(Self { path, files, shapes, file_of })
    }

    /// The files.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// Element type of every tensor by name.
    pub fn dtypes(&self) -> BTreeMap<String, ElementType> {
        let mut dtypes = BTreeMap::new();
        for file in &self.files {
            dtypes.extend(file.dtypes());
        }
        dtypes
    }

    fn file(&self, name: &str) -> Result<&WeightFile> {
        let file = self.file_of.get(name).map(|&index| &self.files[index]);
        file.ok_or_else(|| Error::Format {
            path: self.path.clone(),
            format: "set of weights",
            reason: format!("there is no tensor {name}"),
        })
    }
}

impl TensorSource for WeightFiles {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&self, name: &str) -> Result<TensorData> {
        self.file(name)?.read(name)
    }

    fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        let files = [self.file(one)?, self.file(other)?];
        if files[0].dtype(one) == files[1].dtype(other) {
            return files[0].is_identical(one, files[1], other);
        }
        Ok(equal_values(&self.read(one)?, &self.read(other)?))
    }
}

impl TorchFile {
    /// One tensor in row-major order, as f32, f16 or bf16.
    pub(crate) fn read_floats(&self, name: &str) -> Result<TensorData> {
        match self.tensors().get(name) {
            Some(info) if !info.dtype.is_supported() => {
                Err(Error::tensor_type(self.path(), name, info.dtype, ElementType::SUPPORTED))
            }
            _ => Ok(f64_to_f32(self.read(name)?)),
        }
    }

    /// Whether a tensor is identical to one of another file or of this one.
    fn is_identical(&self, name: &str, other: &Self, theirs: &str) -> Result<bool> {
        let (Some(one), Some(two)) = (self.tensors().get(name), other.tensors().get(theirs)) else {
            return Ok(false);
        };
        if one.dtype != two.dtype || one.shape != two.shape {
            return Ok(false);
        }
        // Tied tensors share one storage.
        if std::ptr::eq(self, other) && one == two {
            return Ok(true);
        }
        Ok(self.read(name)?.as_bytes() == other.read(theirs)?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Value, to_bytes};

    fn torch(name: &str, tensors: &[(&str, TensorData)]) -> WeightFile {
        let entries =
            tensors.iter().map(|(name, data)| ((*name).into(), Value::Tensor(data.clone())));
        let bytes = to_bytes(&Value::Dict(entries.collect())).unwrap();
        TorchFile::open(ByteSource::memory(name, bytes)).unwrap().into()
    }

    fn safetensors(name: &str, tensors: &[(&str, TensorData)]) -> WeightFile {
        let views = tensors.iter().map(|(name, data)| {
            let shape = data.shape().to_vec();
            (
                *name,
                safetensors::tensor::TensorView::new(
                    safetensors::Dtype::F32,
                    shape,
                    data.as_bytes(),
                )
                .unwrap(),
            )
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        SafetensorsFile::new(ByteSource::memory(name, bytes)).unwrap().into()
    }

    #[test]
    fn a_tensor_in_two_files_must_be_identical() {
        let (a, b) = (TensorData::from([1.0_f32, 2.0]), TensorData::from([1.0_f32, 3.0]));
        let short = TensorData::from([1.0_f32]);
        for make in [torch, safetensors] {
            let open = |second: &TensorData| {
                let files = [("one", &a), ("two", second)];
                let files = files.map(|(name, data)| make(name, &[("w", data.clone())]));
                WeightFiles::new("model", files.into())
            };
            let both = open(&a).unwrap();
            assert_eq!(both.read("w").unwrap(), a);
            for other in [&b, &short] {
                let error = open(other).unwrap_err().to_string();
                assert!(error.ends_with("tensor w is in one and in two, and differs"), "{error}");
            }
        }
    }

    #[test]
    fn tensors_of_different_types_can_be_equal() {
        let numbers = TensorData::from([1.0_f32, -2.5]);
        let half = numbers.clone().convert_dtype(burn::tensor::DType::F16);
        let other = TensorData::from([1.0_f32, 2.5]);
        let tensors = [("a", &numbers), ("same", &numbers), ("half", &half), ("other", &other)];
        let file = torch("file", &tensors.map(|(name, data)| (name, data.clone())));
        let files = WeightFiles::new("model", vec![file]).unwrap();
        let equal = |name: &str| files.are_equal("a", name).unwrap();
        assert_eq!(["same", "half", "other"].map(equal), [true, true, false]);
    }

    #[test]
    fn integers_of_a_pytorch_file_are_not_weights() {
        let ids = TensorData::from([1_i64, 2]);
        let wide = TensorData::from([0.5_f64]);
        let file = torch("model.bin", &[("ids", ids), ("wide", wide)]);
        assert_eq!(file.read("wide").unwrap().as_slice::<f32>().unwrap(), [0.5]);
        let error = file.read("ids").unwrap_err().to_string();
        assert!(error.starts_with("model.bin: tensor ids holds I64, expected F32"), "{error}");
    }
}
