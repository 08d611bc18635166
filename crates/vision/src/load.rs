//! Files ─► names and shapes checked ─► [`Encoder`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::Param;
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use checkpoint::files::read_text;
use checkpoint::folder::{hub_cache_snapshot, open_weights};
use checkpoint::{
    ByteSource, LoadReport, SafetensorsFile, TensorSource, WeightFile, WeightFiles,
    reject_quantized_config, reject_quantized_tensors,
};
use llama::config::NormKind;
use llama::model::{Linear, Norm, Weight};

use crate::block::{Attention, Block, Mlp};
use crate::config::EncoderConfig;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::names::{Layout, Names};
use crate::positions::stretch;
use crate::preprocess::Preprocessing;

/// An encoder's files, opened but not loaded.
pub struct EncoderSource {
    path: PathBuf,
    config: EncoderConfig,
    names: Names,
    tensors: WeightFiles,
    preprocessing: Preprocessing,
    unknown_keys: Vec<String>,
}

/// What messages call an encoder that is no file.
const EMBEDDED: &str = "the built-in encoder";

impl EncoderSource {
    /// Opens a folder of Hugging Face's CLIP or DINOv2, also one in the Hub's cache, or a file in
    /// OpenAI's layout: a safetensors file, or a PyTorch file of tensors by name.
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
        let prefix = find_prefix(Layout::OpenAi, &tensors)?;
        let config = EncoderConfig::from_openai_tensors(prefix, &tensors)?;
        let preprocessing = Preprocessing::for_family(config.family, config.image_size);
        let names = Names::new(Layout::OpenAi, prefix);
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
        let (config, mut unknown) = EncoderConfig::parse_with_unknown_keys(&file, &text)?;
        let tensors = open_weights(&path)?;
        reject_quantized_tensors(&path, tensors.shapes())?;
        let (preprocessing, more) =
            Preprocessing::from_folder(&path, config.family, default_size(&config))?;
        unknown.extend(more);
        let own = Self::hugging_face(path, config, tensors, preprocessing)?;
        Ok(Self { unknown_keys: unknown, ..own })
    }

    /// An encoder whose files are part of the program, as `include_str!` and `include_bytes!` give
    /// them: a folder's `config.json`, `model.safetensors` and `preprocessor_config.json`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_embedded(
        config: &str,
        weights: &'static [u8],
        preprocessing: &str,
    ) -> Result<Self> {
        let path = PathBuf::from(EMBEDDED);
        reject_quantized_config(&path, config)?;
        let config = EncoderConfig::parse(&path, config)?;
        let file = SafetensorsFile::new(ByteSource::memory(&path, weights))?;
        let tensors = WeightFiles::new(&path, vec![file.into()])?;
        reject_quantized_tensors(&path, tensors.shapes())?;
        let preprocessing = Preprocessing::parse(&path, preprocessing)?;
        Self::hugging_face(path, config, tensors, preprocessing)
    }

    fn hugging_face(
        path: PathBuf,
        config: EncoderConfig,
        tensors: WeightFiles,
        preprocessing: Preprocessing,
    ) -> Result<Self> {
        let layout = Layout::of_family(config.family);
        let names = Names::new(layout, find_prefix(layout, &tensors)?);
        let unknown_keys = Vec::new();
        Ok(Self { path, config, names, tensors, preprocessing, unknown_keys }.with_projection())
    }

    /// The config with the width of the shared space, which only the tensors tell.
    fn with_projection(mut self) -> Self {
        let shape = self.tensors.shapes().get(&self.names.projection());
        let width = |shape: &Vec<usize>| {
            let across = self.names.projection_is_transposed();
            if across { shape.last().copied() } else { shape.first().copied() }
        };
        self.config.projection = shape.and_then(width);
        self
    }

    /// Its shape.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Keys of its settings that nobody knows: whether they matter cannot be told.
    pub fn unknown_keys(&self) -> &[String] {
        &self.unknown_keys
    }

    /// What its pictures go through.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Loads it for pictures of `image_size` pixels a side. The learned places are stretched to as
    /// many patches, which works well within half and twice the size that they were learned for.
    ///
    /// # Errors
    /// [`Error::ImageSize`]; [`Error::Weights`] with everything that is missing, unexpected or of
    /// the wrong shape; [`Error::Files`].
    pub fn load(&self, image_size: usize, device: &Device) -> Result<Encoder> {
        let patch = self.config.patch_size;
        if image_size == 0 || !image_size.is_multiple_of(patch) {
            return Err(Error::ImageSize { asked: image_size, patch });
        }
        let shapes = self.tensors.shapes();
        let own = shapes.iter().filter(|(name, _shape)| self.names.is_own(name));
        let own =
            own.map(|(name, shape)| (name.clone(), shape.clone())).collect::<BTreeMap<_, _>>();
        let report = LoadReport::compare(&self.names.tensors(&self.config), &own, |_name| false);
        if !report.is_clean() {
            return Err(Error::Weights { path: self.path.clone(), report: Box::new(report) });
        }
        Loading { source: self, device }.encoder(image_size)
    }
}

/// The pictures' size that an encoder is used at by default: DINOv2's learned places are for larger
/// ones than its processor makes.
fn default_size(config: &EncoderConfig) -> usize {
    let size = config.image_size.min(224);
    size - size % config.patch_size
}

/// What the names of the encoder begin with in the files.
fn find_prefix(layout: Layout, tensors: &dyn TensorSource) -> Result<&'static str> {
    let patches = layout.patches();
    let is_there =
        |prefix: &&&str| tensors.shapes().contains_key(&format!("{prefix}{patches}.weight"));
    layout.prefixes().iter().find(is_there).copied().ok_or_else(|| Error::NotAnEncoder {
        path: tensors.path().into(),
        reason: format!("there is no tensor `{patches}.weight`"),
    })
}

struct Loading<'a> {
    source: &'a EncoderSource,
    device: &'a Device,
}

impl Loading<'_> {
    fn read(&self, name: &str) -> Result<TensorData> {
        let data = self.source.tensors.read(name)?.convert_dtype(DType::F32);
        if data.iter::<f32>().all(f32::is_finite) {
            return Ok(data);
        }
        let not_finite = vec![name.to_owned()];
        let report = Box::new(LoadReport { not_finite, ..LoadReport::default() });
        Err(Error::Weights { path: self.source.path.clone(), report })
    }

    fn put<const D: usize>(&self, data: TensorData) -> Tensor<D> {
        Tensor::from_data(data, (self.device, DType::F32))
    }

    fn vector(&self, name: &str) -> Result<Tensor<1>> {
        Ok(self.put(self.read(name)?))
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let weight = self.vector(&format!("{name}.weight"))?;
        let bias = self.vector(&format!("{name}.bias"))?;
        Ok(Norm::new(NormKind::Layer, weight, Some(bias), self.source.config.norm_eps))
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        let weight = Weight::frozen(self.read(&format!("{name}.weight"))?, self.device);
        Ok(Linear::new(weight, Some(self.vector(&format!("{name}.bias"))?)))
    }

    /// Query, key and value.
    fn qkv(&self, names: &Result<[String; 3], String>) -> Result<[Linear; 3]> {
        let all = match names {
            Ok([query, key, value]) => {
                return Ok([self.linear(query)?, self.linear(key)?, self.linear(value)?]);
            }
            Err(all) => all,
        };
        let parts = |name: String| -> Result<[TensorData; 3]> {
            let data = self.read(&name)?;
            let mut shape = data.shape().to_vec();
            shape[0] /= 3;
            let values = data.as_slice::<f32>().expect("it was read as f32");
            let mut parts = values.chunks_exact(values.len() / 3);
            Ok(std::array::from_fn(|_| {
                let part = parts.next().expect("three parts").to_vec();
                TensorData::new(part, Shape::from(shape.clone()))
            }))
        };
        let mut biases = parts(format!("{all}bias"))?.into_iter();
        Ok(parts(format!("{all}weight"))?.map(|weight| {
            let bias = biases.next().map(|bias| self.put(bias));
            Linear::new(Weight::frozen(weight, self.device), bias)
        }))
    }

    fn block(&self, layer: usize) -> Result<Block> {
        let config = &self.source.config;
        let names = self.source.names.block(layer, config.activation);
        let scale = |name: &Option<String>| {
            name.as_ref().map(|name| self.vector(name).map(Param::from_tensor)).transpose()
        };
        let [query, key, value] = self.qkv(&names.qkv)?;
        let output = self.linear(&names.output)?;
        Ok(Block {
            attention_norm: self.norm(&names.attention_norm)?,
            attention: Attention { query, key, value, output, n_heads: config.n_heads },
            attention_layer_scale: scale(&names.attention_layer_scale)?,
            mlp_norm: self.norm(&names.mlp_norm)?,
            mlp: Mlp {
                up: self.linear(&names.up)?,
                down: self.linear(&names.down)?,
                activation: config.activation,
            },
            mlp_layer_scale: scale(&names.mlp_layer_scale)?,
        })
    }

    fn encoder(&self, image_size: usize) -> Result<Encoder> {
        let (config, names) = (&self.source.config, &self.source.names);
        let d_model = config.d_model;
        let patches = self.read(&format!("{}.weight", names.patches()))?;
        let patches = shaped(patches, [d_model, 3 * config.patch_size.pow(2)]);
        let patches = Weight::frozen(patches, self.device);
        let bias = format!("{}.bias", names.patches());
        let bias = self.source.tensors.shapes().contains_key(&bias).then(|| self.vector(&bias));
        let projection = config.projection.map(|_width| self.projection(&names.projection()));
        Ok(Encoder {
            patches: Linear::new(patches, bias.transpose()?),
            class_token: Param::from_tensor(
                self.put(shaped(self.read(&names.class_token())?, [1, 1, d_model])),
            ),
            positions: Param::from_tensor(self.positions(image_size)?),
            input_norm: names.input_norm().map(|name| self.norm(&name)).transpose()?,
            blocks: (0..config.n_layers).map(|layer| self.block(layer)).collect::<Result<_>>()?,
            final_norm: self.norm(&names.final_norm())?,
            projection: projection.transpose()?,
            config: config.clone(),
            image_size,
        })
    }

    fn projection(&self, name: &str) -> Result<Linear> {
        let matrix: Tensor<2> = self.put(self.read(name)?);
        let across = self.source.names.projection_is_transposed();
        Ok(Linear::new(if across { matrix.transpose() } else { matrix }, None))
    }

    /// `[1, 1 + patches, d_model]`
    fn positions(&self, image_size: usize) -> Result<Tensor<3>> {
        let config = &self.source.config;
        let data = self.read(&self.source.names.positions())?;
        let (class, places) =
            data.as_slice::<f32>().expect("it was read as f32").split_at(config.d_model);
        let (from, to) = (config.grid(config.image_size), config.grid(image_size));
        let values = [class, &stretch(places, config.d_model, from, to)].concat();
        Ok(self.put(TensorData::new(values, [1, to * to + 1, config.d_model])))
    }
}

fn shaped<const D: usize>(data: TensorData, shape: [usize; D]) -> TensorData {
    let (bytes, _shape, dtype) = data.into_parts();
    TensorData::from_bytes(bytes, shape, dtype)
}
