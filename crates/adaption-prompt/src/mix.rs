//! Several adapters at once, each with a weight: what they add to the model is added.

use llama::Llama;

use crate::image::{ImageBatch, ImageCondition, ImageConfig};
use crate::prepared::PreparedAdapter;
use crate::weights::AdapterWeights;

/// A weighted mix of adapters.
///
/// The gated branches of their prompts are multiplied by the weights and added; so is what Adapter
/// V2 and LoRA change of a linear layer's output and of a norm's weights. A mix of one adapter with
/// weight 1 is that adapter; all weights 0 is the base.
#[derive(Debug, Clone)]
pub struct AdapterMix {
    /// In any order, at least one.
    pub components: Vec<MixComponent>,
}

/// One adapter of a mix.
#[derive(Debug, Clone)]
pub struct MixComponent {
    /// What to call it; the name of its folder in the mix's.
    pub name: String,
    /// How much of it; any finite number.
    pub weight: f64,
    /// The adapter.
    pub adapter: AdapterWeights,
}

impl AdapterMix {
    /// Makes it ready to join a model's passes, as [`AdapterWeights::prepare`] does.
    ///
    /// # Panics
    /// If a part was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        self.of_parts(|adapter| adapter.prepare(llama))
    }

    /// The same for rows that see pictures, as [`AdapterWeights::prepare_with_images`] does. Parts that
    /// see none take part as they are.
    ///
    /// # Panics
    /// As [`AdapterWeights::prepare_with_images`].
    pub fn prepare_with_images(&self, llama: &Llama, views: &ImageBatch) -> PreparedAdapter {
        self.of_parts(|adapter| adapter.prepare_with_images(llama, views))
    }

    fn of_parts(&self, prepare: impl Fn(&AdapterWeights) -> PreparedAdapter) -> PreparedAdapter {
        let parts = self.components.iter().map(|part| prepare(&part.adapter).scaled(part.weight));
        parts.reduce(PreparedAdapter::merged_with).unwrap_or_default()
    }
}

/// An adapter as users have them: one, or a mix of several.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; there are few of them")]
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
    /// Makes it ready to join a model's passes.
    ///
    /// # Panics
    /// If it was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        match self {
            Self::Single(adapter) => adapter.prepare(llama),
            Self::Mix(mix) => mix.prepare(llama),
        }
    }

    /// The same for rows that see pictures.
    ///
    /// # Panics
    /// As [`AdapterWeights::prepare_with_images`].
    pub fn prepare_with_images(&self, llama: &Llama, views: &ImageBatch) -> PreparedAdapter {
        match self {
            Self::Single(adapter) => adapter.prepare_with_images(llama, views),
            Self::Mix(mix) => mix.prepare_with_images(llama, views),
        }
    }

    /// Shapes of what makes its parts see pictures.
    pub fn image_configs(&self) -> Vec<&ImageConfig> {
        let images = self.components().into_iter().filter_map(|own| own.image.as_ref());
        images.map(ImageCondition::config).collect()
    }

    /// The adapters in it.
    pub fn components(&self) -> Vec<&AdapterWeights> {
        match self {
            Self::Single(adapter) => vec![adapter],
            Self::Mix(mix) => mix.components.iter().map(|part| &part.adapter).collect(),
        }
    }
}
