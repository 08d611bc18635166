//! An adapter, or a mix of several, ready to join a model's passes.

use burn::tensor::Tensor;
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName};

use crate::lora::Lora;
use crate::projected::ProjectedPrompts;
use crate::v2::AdapterV2;

/// What [`AdapterWeights::prepare`](crate::AdapterWeights::prepare) and
/// [`Mix::prepare`](crate::Mix::prepare) make; the [`Adapter`] that is handed to
/// [`Llama::forward`](llama::Llama::forward).
#[derive(Debug, Clone, Default)]
pub struct PreparedAdapter {
    pub(crate) prompts: ProjectedPrompts,
    pub(crate) changes: Vec<Change>,
}

/// What one adapter does to linear layers and norms, and how much of it is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub weight: f64,
    pub v2: Option<AdapterV2>,
    pub lora: Option<Lora>,
}

impl PreparedAdapter {
    /// The same adapter, what it adds multiplied by `weight`.
    pub(crate) fn weighted(self, weight: f64) -> Self {
        let weigh = |change: Change| Change { weight: change.weight * weight, ..change };
        Self {
            prompts: self.prompts.weighted(weight),
            changes: self.changes.into_iter().map(weigh).collect(),
        }
    }

    /// Both at once: what they add is added.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        Self { prompts: self.prompts.plus(other.prompts), changes: self.changes }
    }

    pub(crate) fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.changes.iter().any(|change| change.modifies_linear(layer, name))
    }
}

impl Adapter for PreparedAdapter {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        self.prompts.of_layer(layer)
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        let mut changes = self.changes.iter().filter(|own| own.modifies_linear(layer, name));
        match (changes.next(), changes.next()) {
            (None, _) => None,
            (Some(only), None) if only.weight == 1.0 => {
                Some(only.linear(layer, name, input.clone(), linear))
            }
            _ => {
                let base = linear.forward(input.clone());
                let changes = self.changes.iter().filter(|own| own.modifies_linear(layer, name));
                Some(changes.fold(base.clone(), |sum, own| {
                    let changed = own.linear(layer, name, input.clone(), linear);
                    sum + (changed - base.clone()) * own.weight
                }))
            }
        }
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let changes = self.changes.iter().filter_map(|change| {
            let weights = change.v2.as_ref()?.norm(layer, name)?;
            Some((change.weight, weights))
        });
        let changes = changes.collect::<Vec<_>>();
        match &changes[..] {
            [] => None,
            [(weight, only)] if *weight == 1.0 => {
                // Where only weights were learned, the norm keeps its bias.
                let bias = only.bias.clone().or_else(|| norm.weights().bias);
                Some(NormWeights { bias, ..only.clone() })
            }
            changes => Some(mixed(changes, norm)),
        }
    }
}

/// A norm's own weights plus each change's part.
fn mixed(changes: &[(f64, NormWeights)], norm: &Norm) -> NormWeights {
    let NormWeights { weight: own, bias: own_bias } = norm.weights();
    let parts = |own: Tensor<3>, part: &dyn Fn(&NormWeights) -> Option<Tensor<3>>| {
        changes.iter().fold(own.clone(), |sum, (weight, change)| match part(change) {
            Some(part) => sum + (part - own.clone()) * *weight,
            None => sum,
        })
    };
    NormWeights {
        weight: parts(own, &|change| Some(change.weight.clone())),
        bias: own_bias.map(|own| parts(own, &|change| change.bias.clone())),
    }
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.v2.is_none() && self.lora.is_none()
    }

    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.v2.as_ref().is_some_and(|v2| v2.linear(layer, name).is_some())
            || self.lora.as_ref().is_some_and(|lora| lora.pair(layer, name).is_some())
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        linear: &Linear,
    ) -> Tensor<3> {
        let low_rank = self.lora.as_ref().and_then(|lora| Some((lora, lora.pair(layer, name)?)));
        let product = |input: Tensor<3>| match low_rank {
            Some((lora, pair)) => linear.forward(input.clone()) + lora.delta(pair, input),
            None => linear.forward(input),
        };
        match self.v2.as_ref().and_then(|v2| Some((v2, v2.linear(layer, name)?))) {
            Some((v2, own)) => v2.around(own, input, product),
            None => product(input),
        }
    }
}
