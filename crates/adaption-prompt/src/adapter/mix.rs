//! Weighted sums of adapters.

use llama::Llama;

use super::prepared::PreparedAdapter;
use super::weights::AdapterWeights;
use crate::image_features::ImageBatch;
use crate::parts::{ImageCondition, ImageConfig};

/// A weighted mix of adapters.
///
/// The outputs of their gated prompts are multiplied by the weights and added, and so are their changes of
/// linear layers' outputs and of norm weights. A mix of one adapter of weight 1 equals that adapter; with
/// all weights 0 it equals the base model.
#[derive(Debug, Clone)]
pub struct AdapterMix {
    /// At least one, in any order.
    pub components: Vec<MixComponent>,
}

/// One adapter of a mix.
#[derive(Debug, Clone)]
pub struct MixComponent {
    /// Name, and name of the adapter's folder in the mix's folder.
    pub name: String,
    /// Weight, any finite number.
    pub weight: f64,
    /// The adapter.
    pub adapter: AdapterWeights,
}

impl AdapterMix {
    /// Prepares the mix for forward passes, as [`AdapterWeights::prepare`].
    ///
    /// # Panics
    /// If a component was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        self.combine(llama, |adapter| adapter.prepare_layers(llama, None, |_| true))
    }

    /// Prepares the mix for a batch with images, as [`AdapterWeights::prepare_with_images`]. Components
    /// without an image condition do not depend on the images.
    ///
    /// # Panics
    /// As [`AdapterWeights::prepare_with_images`].
    pub fn prepare_with_images(&self, llama: &Llama, batch: &ImageBatch) -> PreparedAdapter {
        self.combine(llama, |adapter| {
            adapter.prepare_layers(llama, adapter.image_features(batch).as_ref(), |_| true)
        })
    }

    fn combine(
        &self,
        llama: &Llama,
        prepare: impl Fn(&AdapterWeights) -> PreparedAdapter,
    ) -> PreparedAdapter {
        let components = self.components.iter();
        let is_tracked = components.clone().any(|own| own.adapter.is_tracked());
        let components = components.map(|own| prepare(&own.adapter).scaled(own.weight));
        let mix = components.reduce(PreparedAdapter::merged_with).unwrap_or_default();
        mix.packed(llama, is_tracked)
    }
}

/// A single adapter, or a mix of several.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "tensor handles; there are few values of this type")]
pub enum AnyAdapter {
    /// A single adapter.
    Single(AdapterWeights),
    /// A mix.
    Mix(AdapterMix),
}

impl<T: Into<AdapterWeights>> From<T> for AnyAdapter {
    fn from(adapter: T) -> Self {
        Self::Single(adapter.into())
    }
}

impl From<AdapterMix> for AnyAdapter {
    fn from(mix: AdapterMix) -> Self {
        Self::Mix(mix)
    }
}

impl AnyAdapter {
    /// Prepares the adapter for forward passes.
    ///
    /// # Panics
    /// If it was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        match self {
            Self::Single(adapter) => adapter.prepare(llama),
            Self::Mix(mix) => mix.prepare(llama),
        }
    }

    /// Prepares the adapter for a batch with images.
    ///
    /// # Panics
    /// As [`AdapterWeights::prepare_with_images`].
    pub fn prepare_with_images(&self, llama: &Llama, batch: &ImageBatch) -> PreparedAdapter {
        match self {
            Self::Single(adapter) => adapter.prepare_with_images(llama, batch),
            Self::Mix(mix) => mix.prepare_with_images(llama, batch),
        }
    }

    /// The image conditions of its components.
    pub fn image_configs(&self) -> Vec<&ImageConfig> {
        let images = self.components().into_iter().filter_map(|own| own.image.as_ref());
        images.map(ImageCondition::config).collect()
    }

    /// The adapters that it consists of.
    pub fn components(&self) -> Vec<&AdapterWeights> {
        match self {
            Self::Single(adapter) => vec![adapter],
            Self::Mix(mix) => mix.components.iter().map(|own| &own.adapter).collect(),
        }
    }
}
