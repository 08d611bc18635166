//! Images of rows ─► encoded once ─► features for every epoch and every answer.
//!
//! The encoder is frozen, so the features of an image never change.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};

use adaption_prompt::ImageBatch;
use burn::tensor::{DType, Device, Tensor, TensorData};
use communicator::Communicator;
use llama::read_back;
use vision::{FeatureExtractor, RgbImage, decode_image, read_image};

use crate::data::{ImageRef, Instruction, RowStore};
use crate::error::Result;

/// Features of images by the name that rows use, in host memory.
#[derive(Debug, Clone)]
pub struct ImageFeatureCache {
    /// Position of each image's features.
    index: HashMap<String, usize>,
    /// `[images, tokens, width]`
    features: Vec<f32>,
    tokens: usize,
    width: usize,
    device: Device,
}

/// Mean and standard deviation of each feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureStatistics {
    /// `[features]`
    pub mean: Vec<f32>,
    /// `[features]`
    pub std_dev: Vec<f32>,
}

/// An image that cannot be read.
#[derive(Debug)]
pub struct BrokenImage {
    /// The name that rows use.
    pub image: String,
    /// Why it cannot be read.
    pub error: crate::Error,
}

/// Images that are encoded at a time: enough for efficient matmuls, and little memory.
const ENCODE_BATCH_SIZE: usize = 16;

impl ImageFeatureCache {
    /// Encodes every image that some rows name, each of them once.
    ///
    /// Images that cannot be read are skipped and returned with their errors. `progress` receives
    /// the number of images encoded since its last call.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the device fails.
    pub fn encode(
        extractor: &FeatureExtractor,
        rows: impl IntoIterator<Item: Borrow<Instruction>>,
        device: &Device,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Self, Vec<BrokenImage>)> {
        let (tokens, width) = (extractor.n_tokens(), extractor.width());
        let device = device.clone().without_autodiff();
        let mut cache = Self { index: HashMap::new(), features: Vec::new(), tokens, width, device };
        let mut broken = HashMap::new();
        let mut pending: Vec<(String, RgbImage)> = Vec::new();
        for row in rows {
            let Some(name) = row.borrow().image.as_deref() else { continue };
            let is_pending = pending.iter().any(|(other, _)| other == name);
            if is_pending || cache.index.contains_key(name) || broken.contains_key(name) {
                continue;
            }
            match read_row_image(name) {
                Ok(image) => pending.push((name.to_owned(), image)),
                Err(error) => {
                    broken.insert(name.to_owned(), error);
                }
            }
            if pending.len() == ENCODE_BATCH_SIZE {
                progress(cache.encode_pending(extractor, &mut pending)?);
            }
        }
        progress(cache.encode_pending(extractor, &mut pending)?);
        let broken = broken.into_iter().map(|(image, error)| BrokenImage { image, error });
        let mut broken = broken.collect::<Vec<_>>();
        broken.sort_by(|a, b| a.image.cmp(&b.image));
        Ok((cache, broken))
    }

    /// As [`encode`](Self::encode), by several ranks: each encodes a share of the images, and all get all
    /// features. The ranks give the same rows.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_by_ranks(
        ranks: &dyn Communicator,
        extractor: &FeatureExtractor,
        rows: impl IntoIterator<Item: Borrow<Instruction>>,
        device: &Device,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(Self, Vec<BrokenImage>)> {
        if ranks.world() == 1 {
            return Self::encode(extractor, rows, device, progress);
        }
        let mut seen = HashSet::new();
        let names = rows.into_iter().filter_map(|row| row.borrow().image.clone());
        let names = names.filter(|name| seen.insert(name.clone())).collect::<Vec<_>>();
        let (tokens, width) = (extractor.n_tokens(), extractor.width());
        let device = device.clone().without_autodiff();
        let mut cache = Self { index: HashMap::new(), features: Vec::new(), tokens, width, device };
        let mut broken = Vec::new();
        for names in names.chunks(ENCODE_BATCH_SIZE * ranks.world()) {
            let own = names.chunks(ENCODE_BATCH_SIZE).nth(ranks.rank()).unwrap_or_default();
            let images = own.iter().map(|name| read_row_image(name).ok()).collect::<Vec<_>>();
            // For each image of this rank, whether it was read; then the features of those.
            let mut found =
                images.iter().map(|image| u8::from(image.is_some())).collect::<Vec<_>>();
            let images = images.into_iter().flatten().collect::<Vec<_>>();
            if !images.is_empty() {
                let features = read_back(extractor.encode(&images))?.convert_dtype(DType::F32);
                found.extend(features.iter::<f32>().flat_map(f32::to_le_bytes));
            }
            let parts = ranks.all_gather(&found);
            for (names, part) in names.chunks(ENCODE_BATCH_SIZE).zip(&parts) {
                let (is_read, features) = part.split_at(names.len());
                let features =
                    features.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                cache.features.extend(features);
                for (name, is_read) in names.iter().zip(is_read) {
                    if *is_read == 1 {
                        cache.index.insert(name.clone(), cache.index.len());
                    } else if let Err(error) = read_row_image(name) {
                        broken.push(BrokenImage { image: name.clone(), error });
                    } else {
                        // Another rank cannot read what this one can: each has to say what it needs.
                        let path = name.into();
                        let source = std::io::Error::other("another rank cannot read this image");
                        return Err(crate::Error::Read { path, source });
                    }
                }
            }
            progress(names.len());
        }
        broken.sort_by(|a, b| a.image.cmp(&b.image));
        Ok((cache, broken))
    }

    fn encode_pending(
        &mut self,
        extractor: &FeatureExtractor,
        pending: &mut Vec<(String, RgbImage)>,
    ) -> Result<usize> {
        if pending.is_empty() {
            return Ok(0);
        }
        let (names, images): (Vec<_>, Vec<_>) = pending.drain(..).unzip();
        let features = read_back(extractor.encode(&images))?.convert_dtype(DType::F32);
        self.features.extend(features.iter::<f32>());
        let first = self.index.len();
        let count = names.len();
        self.index.extend(names.into_iter().zip(first..));
        Ok(count)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether the row's image is in the cache; true for a row without an image.
    pub fn has_image_of(&self, row: &Instruction) -> bool {
        row.image.as_ref().is_none_or(|image| self.index.contains_key(image))
    }

    /// Statistics of the features over all tokens of the images that some rows name; `None` if they
    /// name none.
    pub fn feature_statistics(&self, rows: &[Instruction]) -> Option<FeatureStatistics> {
        self.statistics(rows.iter().filter_map(|row| self.index_of(row)).collect())
    }

    /// As [`feature_statistics`](Self::feature_statistics), of the rows in a store.
    ///
    /// # Errors
    /// As [`RowStore::get`].
    pub fn feature_statistics_of(&self, rows: &RowStore) -> Result<Option<FeatureStatistics>> {
        let mut images = BTreeSet::new();
        for row in rows.iter() {
            images.extend(self.index_of(&*row?));
        }
        Ok(self.statistics(images))
    }

    fn index_of(&self, row: &Instruction) -> Option<usize> {
        self.index.get(row.image.as_deref()?).copied()
    }

    /// Statistics of some images. Their order makes the sums deterministic.
    fn statistics(&self, images: BTreeSet<usize>) -> Option<FeatureStatistics> {
        let tokens =
            images.iter().flat_map(|&index| self.features_at(index).chunks_exact(self.width));
        let count = images.len() * self.tokens;
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
        let (mean, std_dev) = moments.unzip();
        Some(FeatureStatistics { mean, std_dev })
    }

    /// The features of one image, `[tokens, width]`.
    fn features_at(&self, index: usize) -> &[f32] {
        let len = self.tokens * self.width;
        &self.features[index * len..][..len]
    }

    /// The features of a batch whose rows have images with these names, each image once; `None` if no
    /// row has an image in the cache.
    pub fn image_batch(&self, images: &[Option<&str>]) -> Option<ImageBatch> {
        let indices = images.iter().map(|image| image.and_then(|name| self.index.get(name)));
        let mut distinct = Vec::new();
        let rows = indices.map(|index| {
            let &index = index?;
            Some(distinct.iter().position(|&other| other == index).unwrap_or_else(|| {
                distinct.push(index);
                distinct.len() - 1
            }))
        });
        let rows = rows.collect::<Vec<_>>();
        if distinct.is_empty() {
            return None;
        }
        let values =
            distinct.iter().flat_map(|&index| self.features_at(index)).copied().collect::<Vec<_>>();
        let data = TensorData::new(values, [distinct.len(), self.tokens, self.width]);
        Some(ImageBatch { features: Tensor::from_data(data, &self.device), rows })
    }
}

/// Reads the image of a row, from a file or from the row itself.
fn read_row_image(name: &str) -> Result<RgbImage> {
    let image = ImageRef::parse(name)?;
    Ok(match &image {
        ImageRef::Path(path) => read_image(path)?,
        ImageRef::Data { bytes, .. } => decode_image(image.to_string().as_ref(), bytes)?,
    })
}
