//! Shape, gate and start of an adapter.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What an adapter looks like. The defaults are the paper's for a 7B model, with PEFT's gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptionPromptConfig {
    /// Prompt tokens of a layer, K.
    pub adapter_len: usize,
    /// Adapted layers, L: the last ones of the model.
    pub adapter_layers: usize,
    /// One gate a layer, or one a head.
    pub gate: Gate,
    /// What a gate's number passes through.
    pub activation: Activation,
    /// Numbers that training starts from.
    pub init: Init,
}

/// How many gates a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// One a layer, as in PEFT.
    Scalar,
    /// One a query head, as in the paper.
    #[serde(rename = "head")]
    PerHead,
}

/// What a gate passes through before it multiplies the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Nothing, as in PEFT and the paper.
    Identity,
    /// tanh, as in the original release's training code.
    Tanh,
}

/// Where training starts.
///
/// With `gate` at 0 a fresh adapter is exactly the base model. With the prompts at 0 as well
/// nothing would ever learn: a gate's gradient comes from its prompts and theirs from the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Standard deviation of the prompts' normal distribution.
    pub prompt_std: f64,
    /// Value of every gate.
    pub gate: f64,
}

impl Default for Init {
    fn default() -> Self {
        Self { prompt_std: 1.0, gate: 0.0 }
    }
}

impl Default for AdaptionPromptConfig {
    fn default() -> Self {
        Self {
            adapter_len: 10,
            adapter_layers: 30,
            gate: Gate::Scalar,
            activation: Activation::Identity,
            init: Init::default(),
        }
    }
}

impl AdaptionPromptConfig {
    /// Checks the adapter against a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`] or [`Error::Config`].
    pub fn validate(&self, n_layers: usize) -> Result<()> {
        for (field, value) in
            [("adapter_len", self.adapter_len), ("adapter_layers", self.adapter_layers)]
        {
            // Far beyond any use, and near enough for every size made of it to fit.
            if !(1..=1 << 16).contains(&value) {
                let expected = "1 to 65536";
                return Err(Error::Config { field, found: value.to_string(), expected });
            }
        }
        if self.adapter_layers > n_layers {
            return Err(Error::TooManyLayers { asked: self.adapter_layers, present: n_layers });
        }
        let Init { prompt_std, gate } = self.init;
        let fits = |x: f64| (x as f32).is_finite();
        if !(fits(prompt_std) && prompt_std >= 0.0 && fits(gate)) {
            return Err(Error::Config {
                field: "init",
                found: format!("{prompt_std} and {gate}"),
                expected: "finite numbers, the deviation at least 0",
            });
        }
        if prompt_std == 0.0 && gate == 0.0 {
            return Err(Error::Config {
                field: "init",
                found: "0 for the prompts and 0 for the gate".into(),
                expected: "one of them above 0: from two zeros nothing is ever learned",
            });
        }
        Ok(())
    }

    /// Gates of a layer in a model of `n_heads` heads.
    pub fn gates(&self, n_heads: usize) -> usize {
        match self.gate {
            Gate::Scalar => 1,
            Gate::PerHead => n_heads,
        }
    }

    /// Whether PEFT's own code can compute this adapter: a plain gate a layer.
    pub fn is_peft(&self) -> bool {
        self.gate == Gate::Scalar && self.activation == Activation::Identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_layers_than_the_model_has_are_refused() {
        let config = AdaptionPromptConfig { adapter_layers: 4, ..Default::default() };
        let error = config.validate(3).unwrap_err();
        assert_eq!(error.to_string(), "the adapter wants 4 layers, the model has 3");
        assert!(config.validate(4).is_ok());
    }

    #[test]
    fn two_zeros_are_refused() {
        let init = Init { prompt_std: 0.0, gate: 0.0 };
        let config = AdaptionPromptConfig { adapter_layers: 1, init, ..Default::default() };
        assert!(config.validate(3).unwrap_err().to_string().contains("nothing is ever learned"));
    }
}
