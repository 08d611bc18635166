//! What Adapter V2 trains.

use llama::config::{ModelShape, NormKind};
use llama::{LinearName, LlamaConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::part::{LinearCost, PartConfig, PromptShape};

/// Trainable parameters of Adapter V2. The default is the paper's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2Config {
    /// Position of the scales.
    pub scale: V2Scale,
    /// Whether the linear layers get a bias.
    pub bias: bool,
    /// Linear layers with scale and bias, in every layer of the model.
    pub linears: Vec<LinearName>,
    /// Whether the weights of every norm are trained.
    pub norms: bool,
}

/// Position of the scale of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum V2Scale {
    /// No scale.
    None,
    /// `s · (W x + b)`, one factor per output.
    Output,
    /// `W (s ⊙ x) + b`, one factor per input.
    Input,
}

impl Default for V2Config {
    fn default() -> Self {
        Self::paper()
    }
}

impl V2Config {
    /// Output scale and bias on every linear layer of every decoder layer; norms.
    ///
    /// Source: arXiv 2304.15010, equation 4.
    pub fn paper() -> Self {
        let linears = LinearName::ALL_IN_LAYER.to_vec();
        Self { scale: V2Scale::Output, bias: true, linears, norms: true }
    }

    /// As [`paper`](Self::paper), and on the output head, as in lit-llama and litgpt.
    pub fn lit() -> Self {
        let mut config = Self::paper();
        config.linears.push(LinearName::Head);
        config
    }

    /// Input scale and bias, as in the original release's 65B chat model.
    pub fn input_scale() -> Self {
        Self { scale: V2Scale::Input, ..Self::paper() }
    }

    /// Biases of the query, output and feed-forward projections; norms. As in the original release's
    /// multi-modal 7B model.
    pub fn bias_only() -> Self {
        use LinearName::{Down, Gate, Output, Query, Up};
        let linears = vec![Query, Output, Gate, Up, Down];
        Self { scale: V2Scale::None, bias: true, linears, norms: true }
    }

    /// Checks that there are trainable parameters.
    ///
    /// # Errors
    /// [`Error::Config`]
    pub fn validate(&self) -> Result<()> {
        let on_linears = !self.linears.is_empty() && (self.bias || self.scale != V2Scale::None);
        if !on_linears && !self.norms {
            let found = "no scale, no bias and no norms".into();
            let expected = "at least one trainable parameter";
            return Err(Error::Config { field: "v2", found, expected });
        }
        Ok(())
    }
}

impl PartConfig for V2Config {
    fn validate(&self, _prompts: Option<&PromptShape>, _model: &ModelShape) -> Result<()> {
        self.validate()
    }

    fn n_parameters(&self, model: &LlamaConfig) -> u64 {
        let shape = ModelShape::from(model);
        let layers = 0..=shape.n_layers;
        let linears = layers.flat_map(|layer| self.linears.iter().map(move |name| (layer, *name)));
        let present = linears.filter(|&(layer, name)| shape.has_linear(layer, name));
        let linears = present.map(|(_, name)| {
            let [d_out, d_in] = shape.linear_shape(name);
            let scale = match self.scale {
                V2Scale::None => 0,
                V2Scale::Output => d_out,
                V2Scale::Input => d_in,
            };
            (scale + if self.bias { d_out } else { 0 }) as u64
        });
        let linears = linears.sum::<u64>();
        if !self.norms {
            return linears;
        }
        let per_norm = if model.norm == NormKind::Layer { 2 } else { 1 } * model.d_model;
        linears + ((2 * model.n_layers + 1) * per_norm) as u64
    }

    fn first_layer(&self, _model: &ModelShape) -> Option<usize> {
        Some(0)
    }

    fn linear_cost(
        &self,
        layer: usize,
        name: LinearName,
        model: &ModelShape,
    ) -> Option<LinearCost> {
        let modified = model.has_linear(layer, name) && self.linears.contains(&name);
        let [d_out, _d_in] = model.linear_shape(name);
        let on_input = self.scale == V2Scale::Input;
        modified.then_some(LinearCost {
            activations_per_token: if self.scale == V2Scale::Output { d_out } else { 0 },
            keeps_input: on_input,
            needs_input_gradient: on_input,
        })
    }

    fn trains_norms(&self) -> bool {
        self.norms
    }
}
