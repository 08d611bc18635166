//! An adapter, or a mix of several, prepared for forward passes of a model.

use burn::tensor::Tensor;
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName, Llama};

use super::weights::AdapterWeights;
use crate::image_features::{ImageBatch, ImageFeatures};
use crate::part::{PartWeights, PrepareContext};
use crate::projected_prompts::ProjectedPrompts;

/// An adapter prepared for [`Llama::forward`], by [`AdapterWeights::prepare`] or
/// [`AdapterMix::prepare`](crate::AdapterMix::prepare).
#[derive(Debug, Clone, Default)]
pub struct PreparedAdapter {
    pub(super) prompts: ProjectedPrompts,
    pub(super) modifiers: Vec<WeightedModifiers>,
}

/// The parts of one adapter that modify linear layers and norms, and the adapter's weight in a mix.
#[derive(Debug, Clone)]
pub(super) struct WeightedModifiers {
    weight: f64,
    parts: AdapterWeights,
}

impl AdapterWeights {
    /// Prepares the adapter for forward passes: prompts become keys and values.
    ///
    /// For inference, prepare once and keep the result. For training, prepare in every step: the result
    /// belongs to the step's autodiff graph.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> PreparedAdapter {
        self.prepare_layers(llama, None, |_| true)
    }

    /// As [`prepare`](Self::prepare), for a batch with images. A row without an image gets exactly what
    /// [`prepare`](Self::prepare) gives.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes, or for features of another width.
    pub fn prepare_with_images(&self, llama: &Llama, batch: &ImageBatch) -> PreparedAdapter {
        self.prepare_layers(llama, self.image_features(batch).as_ref(), |_| true)
    }

    /// As [`prepare_with_images`](Self::prepare_with_images), with the prompts of some layers only.
    pub fn prepare_layers(
        &self,
        llama: &Llama,
        image_features: Option<&ImageFeatures>,
        includes_layer: impl Fn(usize) -> bool,
    ) -> PreparedAdapter {
        let parts = self.modifiers();
        let modifiers = if parts.parts().is_empty() {
            Vec::new()
        } else {
            vec![WeightedModifiers { weight: 1.0, parts }]
        };
        let modifiers_only = PreparedAdapter { prompts: ProjectedPrompts::default(), modifiers };
        let context = PrepareContext {
            llama,
            modifiers: &modifiers_only,
            images: image_features,
            includes_layer: &includes_layer,
        };
        let prompts = self.parts().into_iter().map(|(_, part)| part.prompts(&context));
        let prompts = prompts.reduce(ProjectedPrompts::merged_with).unwrap_or_default();
        PreparedAdapter { prompts, ..modifiers_only }
    }
}

impl PreparedAdapter {
    /// The same adapter with its effect multiplied by `weight`.
    pub(super) fn scaled(self, weight: f64) -> Self {
        let scale =
            |own: WeightedModifiers| WeightedModifiers { weight: own.weight * weight, ..own };
        Self {
            prompts: self.prompts.scaled(weight),
            modifiers: self.modifiers.into_iter().map(scale).collect(),
        }
    }

    /// The sum of the effects of both.
    pub(super) fn merged_with(mut self, other: Self) -> Self {
        self.modifiers.extend(other.modifiers);
        Self { prompts: self.prompts.merged_with(other.prompts), modifiers: self.modifiers }
    }

    pub(super) fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.modifiers.iter().any(|own| own.modifies_linear(layer, name))
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
        let modifiers = || self.modifiers.iter().filter(|own| own.modifies_linear(layer, name));
        match (modifiers().next(), modifiers().nth(1)) {
            (None, _) => None,
            (Some(single), None) if single.weight == 1.0 => {
                Some(single.linear(layer, name, input.clone(), linear))
            }
            _ => {
                let base = linear.forward(input.clone());
                Some(modifiers().fold(base.clone(), |sum, own| {
                    let modified = own.linear(layer, name, input.clone(), linear);
                    sum + (modified - base.clone()) * own.weight
                }))
            }
        }
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let weights = self.modifiers.iter().filter_map(|own| {
            let weights = own.norm(layer, name)?;
            Some((own.weight, weights))
        });
        let weights = weights.collect::<Vec<_>>();
        match &weights[..] {
            [] => None,
            [(weight, single)] if *weight == 1.0 => {
                // If only the weight was trained, the norm keeps its bias.
                let bias = single.bias.clone().or_else(|| norm.weights().bias);
                Some(NormWeights { bias, ..single.clone() })
            }
            several => Some(mix_norm_weights(several, norm)),
        }
    }
}

/// The base's norm weights plus the weighted differences of all others from them.
fn mix_norm_weights(others: &[(f64, NormWeights)], norm: &Norm) -> NormWeights {
    let NormWeights { weight: base, bias: base_bias } = norm.weights();
    let mix = |base: Tensor<3>, field: &dyn Fn(&NormWeights) -> Option<Tensor<3>>| {
        others.iter().fold(base.clone(), |sum, (weight, other)| match field(other) {
            Some(own) => sum + (own - base.clone()) * *weight,
            None => sum,
        })
    };
    NormWeights {
        weight: mix(base, &|own| Some(own.weight.clone())),
        bias: base_bias.map(|base| mix(base, &|own| own.bias.clone())),
    }
}

impl WeightedModifiers {
    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.parts.parts().into_iter().any(|(_, part)| part.modifies_linear(layer, name))
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        linear: &Linear,
    ) -> Tensor<3> {
        let parts = self.parts.parts().into_iter().map(|(_, part)| part);
        let parts = parts.filter(|part| part.modifies_linear(layer, name)).collect::<Vec<_>>();
        nest(&parts, layer, name, input, linear)
    }

    fn norm(&self, layer: usize, name: NormName) -> Option<NormWeights> {
        self.parts.parts().into_iter().find_map(|(_, part)| part.norm(layer, name))
    }
}

/// The linear layer with the modifications of some parts, the first outermost.
fn nest(
    parts: &[&dyn PartWeights],
    layer: usize,
    name: LinearName,
    input: Tensor<3>,
    linear: &Linear,
) -> Tensor<3> {
    match parts.split_first() {
        None => linear.forward(input),
        Some((part, rest)) => {
            part.wrap_linear(layer, name, input, &|input| nest(rest, layer, name, input, linear))
        }
    }
}
