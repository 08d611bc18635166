//! Adapters from folders, mixes and images, for a real model.

use std::path::Path;
use std::sync::Arc;

use adaption_prompt::{
    AdapterMix, AdapterWeights, AnyAdapter, ImageBatch, MixComponent, PreparedAdapter,
};
use llama::Llama;
use llama::fingerprint::Fingerprint;

use super::load::{AdapterLoader, Loaded};
use super::source::{AdapterLocation, AdapterSource, ImageEncoders};
use crate::engine::request::ImageInput;
use crate::error::LoadError;

/// Loads adapters of a model.
pub(crate) struct LlamaLoader {
    pub(crate) llama: Llama,
    /// The model's, which each adapter's is compared with.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) images: Option<Arc<dyn ImageEncoders>>,
}

impl AdapterLoader for LlamaLoader {
    type Weights = AnyAdapter;
    type Prepared = PreparedAdapter;

    fn load(&mut self, source: &AdapterSource) -> Result<Loaded<AnyAdapter>, LoadError> {
        let Self { llama, fingerprint, .. } = self;
        let device = llama.device();
        let weights = match &source.location {
            AdapterLocation::Path(path) => {
                AnyAdapter::load_for(path, llama, &device, fingerprint)?
            }
            AdapterLocation::Data(data) => {
                let path = Path::new(&source.name);
                let known = data.base.fingerprint.as_ref();
                let differences = known.map(|known| known.differences(fingerprint));
                if let Some(differences) = differences.filter(|own| !own.is_empty()) {
                    let base = data.base.name.clone();
                    let path = path.into();
                    let error = adaption_prompt::Error::BaseMismatch { path, base, differences };
                    return Err(error.into());
                }
                let shape = llama.config().into();
                AdapterWeights::from_data(data, &shape, path, &device)?.into()
            }
        };
        let parameters = weights.components().into_iter().map(AdapterWeights::n_parameters);
        let bytes = parameters.sum::<usize>() * size_of::<f32>();
        let sees_images = !weights.image_configs().is_empty();
        Ok(Loaded { weights, bytes, sees_images })
    }

    fn prepare(
        &mut self,
        parts: &[(AnyAdapter, f64)],
        image: Option<&ImageInput>,
    ) -> Result<(PreparedAdapter, usize), LoadError> {
        let sum = weighted_sum(parts);
        let prepared = match image {
            None => sum.prepare(&self.llama),
            Some(image) => sum.prepare_with_images(&self.llama, &self.encode(&sum, image)?),
        };
        let bytes = prepared.bytes();
        Ok((prepared, bytes))
    }
}

impl LlamaLoader {
    fn encode(&self, adapter: &AnyAdapter, image: &ImageInput) -> Result<ImageBatch, LoadError> {
        let failed = |reason: String| LoadError::Encoder { reason };
        let encoders = self.images.as_ref().ok_or_else(|| failed("there is none".into()))?;
        let extractor = encoders.extractor(&adapter.image_configs());
        let extractor = extractor.map_err(|error| failed(error.to_string()))?;
        let width = adapter.image_configs().into_iter().map(|config| config.features);
        let found = extractor.width();
        if let Some(expected) = width.into_iter().find(|expected| *expected != found) {
            let reason = format!("its features have {found} values, expected {expected}");
            return Err(failed(reason));
        }
        Ok(ImageBatch::single(extractor.encode(std::slice::from_ref(image.image()))))
    }
}

/// The adapter itself, or a mix of the parts of all.
fn weighted_sum(parts: &[(AnyAdapter, f64)]) -> AnyAdapter {
    if let [(adapter, 1.0)] = parts {
        return adapter.clone();
    }
    let mut components = Vec::new();
    for (adapter, weight) in parts {
        match adapter {
            AnyAdapter::Single(adapter) => components.push(MixComponent {
                name: String::new(),
                weight: *weight,
                adapter: adapter.clone(),
            }),
            AnyAdapter::Mix(mix) => components.extend(mix.components.iter().map(|own| {
                MixComponent { weight: own.weight * weight, ..own.clone() }
            })),
        }
    }
    AdapterMix { components }.into()
}
