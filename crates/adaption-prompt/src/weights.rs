//! Everything that one adapter has learned.

use burn::module::Module;
use burn::tensor::Device;
use llama::{Adapter, Llama};

use crate::adapter::AdaptionPrompt;
use crate::config::AdapterConfig;
use crate::image::{ImageBatch, ImageCondition, ImageFeatures};
use crate::lora::Lora;
use crate::prepared::{PreparedAdapter, WeightedModifiers};
use crate::projected::ProjectedPrompts;
use crate::v2::AdapterV2;

/// An adapter: prompts, Adapter V2, LoRA, or several of them, and what makes it see pictures. On an
/// autodiff device it can be trained.
#[derive(Module, Debug)]
pub struct AdapterWeights {
    /// Gated prompts.
    pub prompts: Option<AdaptionPrompt>,
    /// Scales, biases and norms.
    pub v2: Option<AdapterV2>,
    /// Low-rank products.
    pub lora: Option<Lora>,
    /// What makes it see pictures.
    pub image: Option<ImageCondition>,
}

impl From<AdaptionPrompt> for AdapterWeights {
    fn from(prompts: AdaptionPrompt) -> Self {
        Self { prompts: Some(prompts), v2: None, lora: None, image: None }
    }
}

impl AdapterWeights {
    /// What it is made of.
    pub fn config(&self) -> AdapterConfig {
        AdapterConfig {
            prompts: self.prompts.as_ref().map(|prompts| prompts.config().clone()),
            v2: self.v2.as_ref().map(|v2| v2.config().clone()),
            lora: self.lora.as_ref().map(|lora| lora.config().clone()),
            image: self.image.as_ref().map(|image| image.config().clone()),
        }
    }

    /// Makes it ready to join a model's passes: prompts become keys and values.
    ///
    /// While training, do it again in every step; to answer, once. See
    /// [`AdaptionPrompt::project`].
    ///
    /// # Panics
    /// If it was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        self.prepare_layers(llama, None, |_| true)
    }

    /// As [`prepare`](Self::prepare), for rows that see pictures. A row without one gets what it
    /// would get from [`prepare`](Self::prepare), bit for bit.
    ///
    /// # Panics
    /// If it was made for a model of other sizes, or features have another width than its own.
    pub fn prepare_with_images(&self, llama: &Llama, views: &ImageBatch) -> PreparedAdapter {
        self.prepare_layers(llama, self.image_features(views).as_ref(), |_| true)
    }

    /// What rows see of pictures, or nothing, if the adapter sees none or no row has any. See
    /// [`ImageCondition::look`].
    ///
    /// # Panics
    /// As [`ImageCondition::look`].
    pub fn image_features(&self, views: &ImageBatch) -> Option<ImageFeatures> {
        let image = self.image.as_ref()?;
        views.rows.iter().any(Option::is_some).then(|| image.image_features(views))
    }

    /// As [`prepare_with_images`](Self::prepare_with_images), for a part of the layers: others have no prompts
    /// then.
    pub fn prepare_layers(
        &self,
        llama: &Llama,
        sight: Option<&ImageFeatures>,
        wanted: impl Fn(usize) -> bool,
    ) -> PreparedAdapter {
        let change =
            WeightedModifiers { weight: 1.0, v2: self.v2.clone(), lora: self.lora.clone() };
        let changes = if change.is_empty() { Vec::new() } else { vec![change] };
        let without_prompts =
            PreparedAdapter { prompts: ProjectedPrompts::default(), modifiers: changes };
        let change: &dyn Adapter = &without_prompts;
        let image = self.image.as_ref().zip(sight);
        // Where pictures are prompts themselves, other prompts do not see them.
        let added = sight.filter(|_| self.image.as_ref().is_some_and(|own| own.gate.is_some()));
        let prompts = self.prompts.as_ref();
        let prompts = prompts.map(|own| own.project(llama, change, added, &wanted));
        let early =
            image.map(|(own, sight)| own.early_fusion_prompts(llama, change, sight, &wanted));
        let early = early.unwrap_or_default().into_iter().collect();
        PreparedAdapter {
            prompts: prompts.unwrap_or_default().merged_with(early),
            ..without_prompts
        }
    }

    /// The lowest layer that it changes; none below has a part in its gradients.
    pub fn first_layer(&self) -> usize {
        let prompts = self.prompts.iter().filter_map(|prompts| prompts.indices().first().copied());
        let v2 = self.v2.iter().filter_map(|v2| {
            v2.layers.iter().position(|own| !own.linears.is_empty() || !own.norms.is_empty())
        });
        let lora = self
            .lora
            .iter()
            .filter_map(|lora| lora.layers.iter().position(|own| !own.pairs.is_empty()));
        let image = self.image.iter().filter(|own| !own.early.is_empty()).map(|_| 0);
        prompts.chain(v2).chain(lora).chain(image).min().unwrap_or(0)
    }

    /// Where its numbers are.
    pub fn device(&self) -> Device {
        // Every part of an adapter is on one device.
        self.devices().into_iter().next().unwrap_or_default()
    }

    /// Numbers that training changes.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }
}
