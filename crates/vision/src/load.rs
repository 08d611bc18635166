//! files ─► names and shapes checked ─► [`Encoder`]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::files::read_text;
use checkpoint::folder::{hub_cache_snapshot, open_weights};
use checkpoint::{
    ByteSource, LoadReport, SafetensorsFile, TensorSource, WeightFile, WeightFiles,
    reject_quantized_config, reject_quantized_tensors,
};
use llama::model::Weight;

use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::position_embeddings::interpolate;
use crate::preprocess::Preprocessing;
use crate::tensor_names::{CheckpointLayout, TensorNames};
use crate::tensors::{EncoderTensor, Parameter, Storage, encoder_tensors};

/// An opened checkpoint of an encoder. The config is read, the weights are not.
pub struct EncoderSource {
    path: PathBuf,
    config: EncoderConfig,
    names: TensorNames,
    tensors: WeightFiles,
    preprocessing: Preprocessing,
    unknown_keys: Vec<String>,
}

impl fmt::Debug for EncoderSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncoderSource")
            .field("path", &self.path)
            .field("config", &self.config)
            .field("preprocessing", &self.preprocessing)
            .finish_non_exhaustive()
    }
}

/// Name of an encoder without a path, in messages.
const EMBEDDED_NAME: &str = "the built-in encoder";

impl EncoderSource {
    /// Opens a Hugging Face folder of CLIP or DINOv2 (also in the Hub's cache), or a CLIP file in
    /// OpenAI's layout: safetensors, or PyTorch's file of a state dict.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`], [`Error::Config`], [`Error::Files`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if path.is_dir() {
            let snapshot = hub_cache_snapshot(&path)?;
            return Self::open_folder(snapshot.unwrap_or(path));
        }
        let tensors = WeightFiles::new(&path, vec![WeightFile::open(&path)?])?;
        let prefix = find_prefix(CheckpointLayout::OpenAi, &tensors)?;
        let config = EncoderConfig::from_openai_tensors(prefix, &tensors)?;
        let preprocessing = Preprocessing::for_family(config.family, config.image_size);
        let names = TensorNames::new(CheckpointLayout::OpenAi, prefix);
        let unknown_keys = Vec::new();
        Ok(Self { path, config, names, tensors, preprocessing, unknown_keys }.with_projection())
    }

    fn open_folder(path: PathBuf) -> Result<Self> {
        let file = path.join("config.json");
        if !file.is_file() {
            let reason = "it has no config.json".into();
            return Err(Error::NotAnEncoder { path, reason });
        }
        let text = read_text(&file)?;
        reject_quantized_config(&path, &text)?;
        let (config, mut unknown_keys) = EncoderConfig::parse_with_unknown_keys(&file, &text)?;
        let tensors = open_weights(&path)?;
        reject_quantized_tensors(&path, tensors.shapes())?;
        let (preprocessing, more) =
            Preprocessing::from_folder(&path, config.family, default_image_size(&config))?;
        unknown_keys.extend(more);
        let source = Self::from_hugging_face(path, config, tensors, preprocessing)?;
        Ok(Self { unknown_keys, ..source })
    }

    /// Opens an encoder that is compiled into the program with `include_str!` and `include_bytes!`:
    /// `config.json`, `model.safetensors` and `preprocessor_config.json` of a folder.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_embedded(
        config: &str,
        weights: &'static [u8],
        preprocessing: &str,
    ) -> Result<Self> {
        let path = PathBuf::from(EMBEDDED_NAME);
        reject_quantized_config(&path, config)?;
        let config = EncoderConfig::parse(&path, config)?;
        let file = SafetensorsFile::new(ByteSource::memory(&path, weights))?;
        let tensors = WeightFiles::new(&path, vec![file.into()])?;
        reject_quantized_tensors(&path, tensors.shapes())?;
        let preprocessing = Preprocessing::parse(&path, preprocessing)?;
        Self::from_hugging_face(path, config, tensors, preprocessing)
    }

    fn from_hugging_face(
        path: PathBuf,
        config: EncoderConfig,
        tensors: WeightFiles,
        preprocessing: Preprocessing,
    ) -> Result<Self> {
        let layout = CheckpointLayout::for_family(config.family);
        let names = TensorNames::new(layout, find_prefix(layout, &tensors)?);
        let unknown_keys = Vec::new();
        Ok(Self { path, config, names, tensors, preprocessing, unknown_keys }.with_projection())
    }

    /// Sets the width of the projection, which only the shape of its tensor has.
    fn with_projection(mut self) -> Self {
        let shape = self.tensors.shapes().get(&self.names.projection());
        let is_transposed = self.names.projection_is_transposed();
        self.config.projection = shape.and_then(|shape| {
            let width = if is_transposed { shape.last() } else { shape.first() };
            width.copied().filter(|&width| width > 0)
        });
        self
    }

    /// Sizes of the encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Unknown keys of the config files. They are ignored, although they may change the features.
    pub fn unknown_keys(&self) -> &[String] {
        &self.unknown_keys
    }

    /// The preprocessing of its images.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Loads the encoder for images of `image_size` pixels per side.
    ///
    /// The position embeddings are interpolated to that size, which works well between half and twice
    /// the size that they were trained for.
    ///
    /// # Errors
    /// [`Error::ImageSize`]; [`Error::Weights`] with all missing, unexpected and misshapen tensors, or
    /// with one that has NaN or infinite values; [`Error::Files`].
    pub fn load(&self, image_size: usize, device: &Device) -> Result<Encoder> {
        let patch_size = self.config.patch_size;
        if image_size == 0 || !image_size.is_multiple_of(patch_size) {
            return Err(Error::ImageSize { requested: image_size, patch_size });
        }
        let tensors = encoder_tensors(&self.names, &self.config);
        // Nothing is allocated for an encoder whose weights do not fit.
        self.check(&tensors)?;
        let mut encoder = Encoder::zeros(&self.config, image_size, device);
        for tensor in &tensors {
            self.read_into(tensor, &mut encoder, device)?;
        }
        Ok(encoder)
    }

    fn check(&self, tensors: &[EncoderTensor]) -> Result<()> {
        let mut expected = tensors.iter().map(|tensor| tensor.spec.clone()).collect::<Vec<_>>();
        expected.dedup();
        let shapes = self.tensors.shapes().iter();
        let found = shapes.filter(|(name, _shape)| self.names.contains(name));
        let found = found.map(|(name, shape)| (name.clone(), shape.clone()));
        let report =
            LoadReport::compare(&expected, &found.collect::<BTreeMap<_, _>>(), |_name| false);
        if report.is_clean() { Ok(()) } else { Err(self.mismatch(report)) }
    }

    fn mismatch(&self, report: LoadReport) -> Error {
        Error::Weights { path: self.path.clone(), report: Box::new(report) }
    }

    /// Reads a tensor into its parameter.
    fn read_into(
        &self,
        tensor: &EncoderTensor,
        encoder: &mut Encoder,
        device: &Device,
    ) -> Result<()> {
        let d_model = self.config.d_model;
        let shape = &tensor.spec.shape;
        let values = self.read(&tensor.spec.name)?;
        let (rows, values) = match tensor.storage {
            Storage::Plain => (shape[0], values),
            Storage::Third(third) => {
                let len = values.len() / 3;
                (shape[0] / 3, values[third * len..][..len].to_vec())
            }
            Storage::Transposed => (shape[1], transpose(&values, shape[1])),
            Storage::Positions => {
                let [from, to] =
                    [self.config.image_size, encoder.image_size].map(|size| self.config.grid(size));
                let (class, patches) = values.split_at(d_model);
                let patches = interpolate(patches, d_model, from, to);
                (1 + to * to, [class, &patches].concat())
            }
        };
        let len = values.len();
        match tensor.parameter(encoder) {
            Parameter::Matrix(weight) => {
                *weight = Weight::frozen(TensorData::new(values, [rows, len / rows]), device);
            }
            Parameter::Vector(vector) => *vector = f32_param(values, [len], device),
            Parameter::Embedding(embedding) => {
                *embedding = f32_param(values, [1, len / d_model, d_model], device);
            }
        }
        Ok(())
    }

    /// The values of a tensor in f32.
    fn read(&self, name: &str) -> Result<Vec<f32>> {
        let data = self.tensors.read(name)?.convert_dtype(DType::F32);
        let values = data.try_into_vec::<f32>().expect("converted to f32");
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        let not_finite = vec![name.to_owned()];
        Err(self.mismatch(LoadReport { not_finite, ..LoadReport::default() }))
    }
}

fn f32_param<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
}

/// A row-major matrix of `columns` columns with rows and columns swapped.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let column = |index: usize| values.iter().skip(index).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

/// Default image size. DINOv2's position embeddings are for a larger one than its processor uses.
fn default_image_size(config: &EncoderConfig) -> usize {
    let size = config.image_size.min(224);
    size - size % config.patch_size
}

/// The prefix of the encoder's tensors in the files.
fn find_prefix(layout: CheckpointLayout, tensors: &dyn TensorSource) -> Result<&'static str> {
    let patches = layout.patch_embedding();
    let has_prefix =
        |prefix: &&&str| tensors.shapes().contains_key(&format!("{prefix}{patches}.weight"));
    layout.prefixes().iter().find(has_prefix).copied().ok_or_else(|| Error::NotAnEncoder {
        path: tensors.path().into(),
        reason: format!("there is no tensor `{patches}.weight`"),
    })
}
