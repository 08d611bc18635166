//! Shape and initialization of the adaption prompt.

use llama::LlamaConfig;
use llama::config::ModelShape;
use serde::{Deserialize, Serialize};

use crate::adapted_layers::AdaptedLayers;
use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::part::{PartConfig, PromptShape};

/// Shape and initialization of the prompts of an adapter. The defaults are the paper's for a 7B model,
/// with PEFT's gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptionPromptConfig {
    /// Prompt tokens per layer, K.
    pub adapter_len: usize,
    /// Adapted layers.
    pub layers: AdaptedLayers,
    /// Gates per layer.
    pub gate: Gate,
    /// Activation of the gates.
    pub activation: GateActivation,
    /// Whether each layer has a trainable factor, initially 1, that multiplies its gates: `new_gate` of
    /// the original multi-modal release.
    #[serde(default)]
    pub factor: bool,
    /// Projections that give keys and values of the prompts.
    #[serde(default)]
    pub projection: PromptProjection,
    /// Initial values.
    #[serde(default)]
    pub init: PromptInit,
}

/// Projections that give keys and values of the prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptProjection {
    /// The key and value projections with the changes of Adapter V2 and LoRA, as in lit-llama.
    #[default]
    Adapted,
    /// The base's own projections, as in the original multi-modal release.
    Frozen,
}

/// Initial values of prompts and gates.
///
/// With every gate at 0, a fresh adapter equals the base model. With the prompts at 0 too, nothing could
/// be trained: the gradient of a gate is a multiple of its prompts' output, and the gradient of the prompts
/// is a multiple of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PromptInit {
    /// Standard deviation of the prompts' normal distribution.
    pub prompt_std: f64,
    /// Mean of the gates.
    pub gate: f64,
    /// Standard deviation of the gates. Above 0 only for comparison with zero-init gates.
    #[serde(default)]
    pub gate_std: f64,
}

impl Default for PromptInit {
    fn default() -> Self {
        Self { prompt_std: 1.0, gate: 0.0, gate_std: 0.0 }
    }
}

impl Default for AdaptionPromptConfig {
    fn default() -> Self {
        Self {
            adapter_len: 10,
            layers: AdaptedLayers::Last(30),
            gate: Gate::Scalar,
            activation: GateActivation::Identity,
            factor: false,
            projection: PromptProjection::Adapted,
            init: PromptInit::default(),
        }
    }
}

impl AdaptionPromptConfig {
    /// Checks the config against a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, n_layers: usize) -> Result<()> {
        // Far beyond any use, and small enough that no product of sizes overflows.
        if !(1..=1 << 16).contains(&self.adapter_len) {
            let found = self.adapter_len.to_string();
            return Err(Error::Config { field: "adapter_len", found, expected: "1 to 65536" });
        }
        self.layers.indices(n_layers)?;
        let PromptInit { prompt_std, gate, gate_std } = self.init;
        let is_finite_f32 = |x: f64| (x as f32).is_finite();
        if ![prompt_std, gate, gate_std].into_iter().all(is_finite_f32)
            || prompt_std < 0.0
            || gate_std < 0.0
        {
            return Err(Error::Config {
                field: "init",
                found: format!("{prompt_std}, {gate} and {gate_std}"),
                expected: "finite numbers, the deviations at least 0",
            });
        }
        if prompt_std == 0.0 && gate == 0.0 && gate_std == 0.0 {
            return Err(Error::Config {
                field: "init",
                found: "0 for the prompts and 0 for the gates".into(),
                expected: "one of them above 0: otherwise every gradient is 0",
            });
        }
        Ok(())
    }

    /// Gates per layer in a model of `n_heads` heads.
    pub fn gates_per_layer(&self, n_heads: usize) -> usize {
        self.gate.count(n_heads)
    }
}

impl PartConfig for AdaptionPromptConfig {
    fn validate(&self, _prompts: Option<&PromptShape>, model: &ModelShape) -> Result<()> {
        self.validate(model.n_layers)
    }

    fn n_parameters(&self, model: &LlamaConfig) -> u64 {
        let gates = self.gates_per_layer(model.n_heads) + usize::from(self.factor);
        let per_layer = (self.adapter_len * model.d_model + gates) as u64;
        self.layers.indices(model.n_layers).map_or(0, |layers| layers.len() as u64) * per_layer
    }

    fn first_layer(&self, model: &ModelShape) -> Option<usize> {
        self.layers.indices(model.n_layers).ok()?.first().copied()
    }

    fn prompt_shape(&self, n_layers: usize) -> Option<PromptShape> {
        let layers = self.layers.indices(n_layers).ok()?;
        Some(PromptShape::new(self.adapter_len, layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_adapted_layers_than_model_layers_is_an_error() {
        let config = AdaptionPromptConfig { layers: AdaptedLayers::Last(4), ..Default::default() };
        let error = config.validate(3).unwrap_err();
        assert!(matches!(error, Error::TooManyLayers { requested: 4, available: 3 }), "{error}");
        assert!(config.validate(4).is_ok());
    }

    #[test]
    fn zero_prompts_with_zero_gates_are_refused() {
        let init = PromptInit { prompt_std: 0.0, ..PromptInit::default() };
        let config =
            AdaptionPromptConfig { layers: AdaptedLayers::Last(1), init, ..Default::default() };
        assert!(config.validate(3).unwrap_err().to_string().contains("every gradient is 0"));
        let init = PromptInit { gate_std: 0.5, ..init };
        assert!(AdaptionPromptConfig { init, ..config }.validate(3).is_ok());
    }
}
