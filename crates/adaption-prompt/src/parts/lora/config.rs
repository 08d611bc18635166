//! Rank, scaling and target layers of LoRA.

use llama::config::ModelShape;
use llama::{LinearName, LlamaConfig};
use serde::{Deserialize, Serialize};

use crate::adapted_layers::AdaptedLayers;
use crate::error::{Error, Result};
use crate::part::{LinearCost, PartConfig, PromptShape};

/// Rank, scaling and target layers of LoRA. The default is PEFT's for Llama: rank 8, alpha 8, query and
/// value projections of every layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of the two matrices.
    pub rank: usize,
    /// Their product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Target linear layers.
    pub linears: Vec<LinearName>,
    /// Adapted layers; `None` for all layers.
    pub layers: Option<AdaptedLayers>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let linears = vec![LinearName::Query, LinearName::Value];
        Self { rank: 8, alpha: 8.0, linears, layers: None }
    }
}

impl LoraConfig {
    /// Checks the config against a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, n_layers: usize) -> Result<()> {
        let invalid = |field, found, expected| Err(Error::Config { field, found, expected });
        if !(1..=1 << 16).contains(&self.rank) {
            return invalid("rank", self.rank.to_string(), "1 to 65536");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return invalid("alpha", self.alpha.to_string(), "above 0");
        }
        if self.linears.is_empty() || self.linears.contains(&LinearName::Head) {
            let found = format!("{:?}", self.linears);
            return invalid("linears", found, "linear layers of a decoder layer, at least one");
        }
        self.indices(n_layers).map(|_| ())
    }

    pub(super) fn indices(&self, n_layers: usize) -> Result<Vec<usize>> {
        match &self.layers {
            Some(layers) => layers.indices(n_layers),
            None => Ok((0..n_layers).collect()),
        }
    }
}

impl PartConfig for LoraConfig {
    fn validate(&self, _prompts: Option<&PromptShape>, model: &ModelShape) -> Result<()> {
        self.validate(model.n_layers)
    }

    fn n_parameters(&self, model: &LlamaConfig) -> u64 {
        let shape = ModelShape::from(model);
        let layers = self.indices(model.n_layers).unwrap_or_default();
        let linears =
            layers.iter().flat_map(|&layer| self.linears.iter().map(move |name| (layer, *name)));
        let present = linears.filter(|&(layer, name)| shape.has_linear(layer, name));
        let pairs = present.map(|(_, name)| {
            let [d_out, d_in] = shape.linear_shape(name);
            (self.rank * (d_out + d_in)) as u64
        });
        pairs.sum()
    }

    fn first_layer(&self, model: &ModelShape) -> Option<usize> {
        self.indices(model.n_layers).ok()?.first().copied()
    }

    fn linear_cost(
        &self,
        layer: usize,
        name: LinearName,
        model: &ModelShape,
    ) -> Option<LinearCost> {
        let adapted = self.indices(model.n_layers).is_ok_and(|layers| layers.contains(&layer));
        let modified = adapted && model.has_linear(layer, name) && self.linears.contains(&name);
        modified.then_some(LinearCost {
            activations_per_token: self.rank,
            keeps_input: true,
            needs_input_gradient: false,
        })
    }
}
