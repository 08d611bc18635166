//! An adapter, or a mix of several, prepared for forward passes of a model.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName, Llama};

use super::modifiers::Modifiers;
use super::weights::AdapterWeights;
use crate::image_features::{ImageBatch, ImageFeatures};
use crate::part::{PartWeights, PrepareContext};
use crate::projected_prompts::ProjectedPrompts;

/// An adapter prepared for [`Llama::forward`], by [`AdapterWeights::prepare`] or
/// [`AdapterMix::prepare`](crate::AdapterMix::prepare).
#[derive(Debug, Clone, Default)]
pub struct PreparedAdapter {
    pub(super) prompts: ProjectedPrompts,
    pub(super) modifiers: Modifiers,
}

// Servers prepare an adapter in one thread and use it in another.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<PreparedAdapter>();
};

impl AdapterWeights {
    /// Prepares the adapter for forward passes: prompts become keys and values.
    ///
    /// For inference, prepare once and keep the result. For training, prepare in every step: the result
    /// belongs to the step's autodiff graph.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        self.prepare_layers(llama, None, |_| true).packed(llama, self.is_tracked())
    }

    /// As [`prepare`](Self::prepare), for a batch with images. A row without an image gets exactly what
    /// [`prepare`](Self::prepare) gives.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes, or for features of another width.
    pub fn prepare_with_images(&self, llama: &Llama, batch: &ImageBatch) -> PreparedAdapter {
        let images = self.image_features(batch);
        self.prepare_layers(llama, images.as_ref(), |_| true).packed(llama, self.is_tracked())
    }

    /// As [`prepare_with_images`](Self::prepare_with_images), with the prompts of some layers only and
    /// without the packed forms for inference.
    pub fn prepare_layers(
        &self,
        llama: &Llama,
        image_features: Option<&ImageFeatures>,
        includes_layer: impl Fn(usize) -> bool,
    ) -> PreparedAdapter {
        let modifiers = Modifiers::new(self.modifiers());
        let context = PrepareContext {
            llama,
            modifiers: &modifiers,
            images: image_features,
            includes_layer: &includes_layer,
        };
        let prompts = self.parts().into_iter().map(|(_, part)| part.prompts(&context));
        let prompts = prompts.reduce(ProjectedPrompts::merged_with).unwrap_or_default();
        PreparedAdapter { prompts, modifiers }
    }

    /// Whether a parameter is on an autodiff device.
    pub(super) fn is_tracked(&self) -> bool {
        self.devices().iter().any(Device::is_autodiff)
    }
}

impl PreparedAdapter {
    /// The same adapter with its effect multiplied by `weight`.
    pub(super) fn scaled(self, weight: f64) -> Self {
        Self { prompts: self.prompts.scaled(weight), modifiers: self.modifiers.scaled(weight) }
    }

    /// The sum of the effects of both.
    pub(super) fn merged_with(self, other: Self) -> Self {
        Self {
            prompts: self.prompts.merged_with(other.prompts),
            modifiers: self.modifiers.merged_with(other.modifiers),
        }
    }

    /// The same adapter with its matrices packed, on a fused device without autodiff.
    pub(super) fn packed(self, llama: &Llama, is_tracked: bool) -> Self {
        if is_tracked || !llama.is_fused() {
            return self;
        }
        Self { modifiers: self.modifiers.packed(), ..self }
    }

    /// Size in memory, in bytes: prompts, scales, biases, norms and matrices, in all forms that are kept.
    pub fn bytes(&self) -> usize {
        self.prompts.bytes() + self.modifiers.bytes()
    }
}

impl Adapter for PreparedAdapter {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        self.prompts.layer(layer)
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        self.modifiers.linear(layer, name, input, linear)
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        self.modifiers.norm(layer, name, norm)
    }
}
