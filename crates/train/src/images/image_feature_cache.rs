//! pictures of rows ─► looked at once ─► features, for every epoch and every answer
//!
//! An encoder is frozen: what it sees in a picture is the same each time.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

use adaption_prompt::{AnyAdapter, ImageBatch, PreparedAdapter};
use burn::tensor::{DType, Device, Tensor, TensorData};
use llama::{Adapter, Llama, read_back};
use vision::{FeatureExtractor, RgbImage, decode_image, read_image};

use crate::data::ImageRef;
use crate::data::Instruction;
use crate::error::Result;

/// Features of pictures, by what rows call them.
#[derive(Debug, Clone)]
pub struct ImageFeatureCache {
    /// Place of each picture's features.
    index: HashMap<String, usize>,
    /// `[pictures, tokens, width]`
    features: Vec<f32>,
    tokens: usize,
    width: usize,
    device: Device,
}

/// Mean and standard deviation of each number of some features.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureStatistics {
    /// `[features]`
    pub mean: Vec<f32>,
    /// `[features]`
    pub std_dev: Vec<f32>,
}

/// A picture that could not be read.
#[derive(Debug)]
pub struct BrokenImage {
    /// What rows call it.
    pub image: String,
    /// What is wrong with it.
    pub error: crate::Error,
}

impl ImageFeatureCache {
    /// Looks at every picture that some rows name, each of them once, some at a time.
    ///
    /// Those that cannot be read are left out, and given back with the reason. `progress` is told
    /// how many were looked at since it was last told.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the device fails.
    pub fn encode<'a>(
        viewer: &FeatureExtractor,
        rows: impl IntoIterator<Item = &'a Instruction>,
        device: &Device,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Self, Vec<BrokenImage>)> {
        /// Pictures of one pass: enough for large products, few enough for little memory.
        const ENCODE_BATCH_SIZE: usize = 16;
        let (tokens, width) = (viewer.n_tokens(), viewer.width());
        let device = device.clone().without_autodiff();
        let mut own = Self { index: HashMap::new(), features: Vec::new(), tokens, width, device };
        let mut broken = HashMap::new();
        let mut waiting: Vec<(String, RgbImage)> = Vec::new();
        for image in rows.into_iter().filter_map(|row| row.image.as_deref()) {
            let is_waiting = waiting.iter().any(|(name, _)| name == image);
            if is_waiting || own.index.contains_key(image) || broken.contains_key(image) {
                continue;
            }
            match read_row_image(image) {
                Ok(picture) => waiting.push((image.to_owned(), picture)),
                Err(error) => {
                    broken.insert(image.to_owned(), error);
                }
            }
            if waiting.len() == ENCODE_BATCH_SIZE {
                progress(own.encode_pending(viewer, &mut waiting)?);
            }
        }
        progress(own.encode_pending(viewer, &mut waiting)?);
        let broken = broken.into_iter().map(|(image, error)| BrokenImage { image, error });
        let mut broken = broken.collect::<Vec<_>>();
        broken.sort_by(|a, b| a.image.cmp(&b.image));
        Ok((own, broken))
    }

    fn encode_pending(
        &mut self,
        viewer: &FeatureExtractor,
        waiting: &mut Vec<(String, RgbImage)>,
    ) -> Result<usize> {
        if waiting.is_empty() {
            return Ok(0);
        }
        let (names, pictures): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let features = read_back(viewer.encode(&pictures))?.convert_dtype(DType::F32);
        self.features.extend(features.iter::<f32>());
        let first = self.index.len();
        let count = names.len();
        self.index.extend(names.into_iter().zip(first..));
        Ok(count)
    }

    /// Pictures that were looked at.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the picture of a row is there; a row without one needs none.
    pub fn has_image_of(&self, row: &Instruction) -> bool {
        row.image.as_ref().is_none_or(|image| self.index.contains_key(image))
    }

    /// How features are spread, over all tokens of the pictures that some rows name; nothing, if they
    /// name none.
    pub fn feature_statistics(&self, rows: &[Instruction]) -> Option<FeatureStatistics> {
        let places = rows.iter().filter_map(|row| self.index.get(row.image.as_deref()?));
        // In a fixed order, so that the last digits are the same each time.
        let places = places.collect::<BTreeSet<_>>();
        let tokens =
            places.iter().flat_map(|&&place| self.features_at(place).chunks_exact(self.width));
        let count = places.len() * self.tokens;
        if count == 0 {
            return None;
        }
        let mut sums = vec![(0.0_f64, 0.0_f64); self.width];
        for token in tokens {
            for ((sum, squares), &value) in sums.iter_mut().zip(token) {
                *sum += f64::from(value);
                *squares += f64::from(value).powi(2);
            }
        }
        let count = count as f64;
        let moments = sums.into_iter().map(|(sum, squares)| {
            let mean = sum / count;
            (mean as f32, (squares / count - mean * mean).max(0.0).sqrt() as f32)
        });
        let (mean, deviation) = moments.unzip();
        Some(FeatureStatistics { mean, std_dev: deviation })
    }

    /// The features of a picture.
    fn features_at(&self, place: usize) -> &[f32] {
        let len = self.tokens * self.width;
        &self.features[place * len..][..len]
    }

    /// What rows see, by the pictures they name; each picture is there once. A row whose picture was
    /// not looked at sees none.
    pub fn image_batch(&self, images: &[Option<&str>]) -> Option<ImageBatch> {
        let places = images.iter().map(|image| image.and_then(|name| self.index.get(name)));
        let mut distinct = Vec::new();
        let rows = places.map(|place| {
            let &place = place?;
            Some(distinct.iter().position(|&other| other == place).unwrap_or_else(|| {
                distinct.push(place);
                distinct.len() - 1
            }))
        });
        let rows = rows.collect::<Vec<_>>();
        if distinct.is_empty() {
            return None;
        }
        let values =
            distinct.iter().flat_map(|&place| self.features_at(place)).copied().collect::<Vec<_>>();
        let data = TensorData::new(values, [distinct.len(), self.tokens, self.width]);
        Some(ImageBatch { features: Tensor::from_data(data, &self.device), rows })
    }
}

/// Reads the picture of a row, wherever it is.
fn read_row_image(image: &str) -> Result<RgbImage> {
    let parsed = ImageRef::parse(image)?;
    Ok(match &parsed {
        ImageRef::Path(path) => read_image(path)?,
        ImageRef::Data { bytes, .. } => decode_image(parsed.to_string().as_ref(), bytes)?,
    })
}

/// What joins the passes of a batch, by the pictures that its rows name.
///
/// Every [`Adapter`] is one, the same for all rows; [`MultimodalAdapter`] is one that looks at pictures.
pub trait BatchAdapter {
    /// What joins the passes of a batch whose rows name these pictures.
    fn for_images<'a>(&'a self, images: &[Option<&str>]) -> Box<dyn Adapter + 'a>;
}

impl<A: Adapter> BatchAdapter for A {
    fn for_images<'a>(&'a self, _images: &[Option<&str>]) -> Box<dyn Adapter + 'a> {
        Box::new(self)
    }
}

/// An adapter, and the pictures that rows may name.
#[derive(Debug)]
pub struct MultimodalAdapter<'a> {
    llama: &'a Llama,
    adapter: AnyAdapter,
    image_features: Option<&'a ImageFeatureCache>,
    /// For rows without pictures, once there are such.
    text_only: OnceCell<PreparedAdapter>,
}

impl<'a> MultimodalAdapter<'a> {
    /// An adapter for batches of rows.
    pub fn new(
        llama: &'a Llama,
        adapter: impl Into<AnyAdapter>,
        pictures: Option<&'a ImageFeatureCache>,
    ) -> Self {
        Self {
            llama,
            adapter: adapter.into(),
            image_features: pictures,
            text_only: OnceCell::new(),
        }
    }
}

impl BatchAdapter for MultimodalAdapter<'_> {
    fn for_images<'a>(&'a self, images: &[Option<&str>]) -> Box<dyn Adapter + 'a> {
        match self.image_features.and_then(|pictures| pictures.image_batch(images)) {
            Some(views) => Box::new(self.adapter.prepare_with_images(self.llama, &views)),
            None => Box::new(self.text_only.get_or_init(|| self.adapter.prepare(self.llama))),
        }
    }
}
