//! What an adapter is made of: prompts, Adapter V2, LoRA, alone or together, and images.

use burn::tensor::Device;
use llama::Llama;
use llama::config::ModelShape;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::{ImageCondition, ImageConfig};
use crate::layers::AdaptedLayers;
use crate::lora::LoraConfig;
use crate::v2::V2Config;
use crate::weights::AdapterWeights;

/// The parts of an adapter; at least one is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Gated prompts, the method's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<AdaptionPromptConfig>,
    /// Scales and biases on the linear layers, and norms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<V2Config>,
    /// Low-rank products beside linear layers, to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// What makes it see pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        AdaptionPromptConfig::default().into()
    }
}

impl From<AdaptionPromptConfig> for AdapterConfig {
    fn from(prompts: AdaptionPromptConfig) -> Self {
        Self { prompts: Some(prompts), v2: None, lora: None, image: None }
    }
}

impl From<V2Config> for AdapterConfig {
    fn from(v2: V2Config) -> Self {
        Self { prompts: None, v2: Some(v2), lora: None, image: None }
    }
}

impl From<LoraConfig> for AdapterConfig {
    fn from(lora: LoraConfig) -> Self {
        Self { prompts: None, v2: None, lora: Some(lora), image: None }
    }
}

impl AdapterConfig {
    /// Checks every part against a model.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, model: &ModelShape) -> Result<()> {
        let none = self.prompts.is_none() && self.v2.is_none() && self.lora.is_none();
        if none && self.image.is_none() {
            let found = "nothing".into();
            let expected = "prompts, V2, LoRA or images";
            return Err(Error::Config { field: "the adapter", found, expected });
        }
        if let Some(prompts) = &self.prompts {
            prompts.validate(model.n_layers)?;
        }
        if let Some(v2) = &self.v2 {
            v2.validate()?;
        }
        if let Some(lora) = &self.lora {
            lora.validate(model.n_layers)?;
        }
        if let Some(image) = &self.image {
            image.validate(self.prompts.as_ref(), model.n_layers)?;
        }
        Ok(())
    }

    /// A fresh adapter, drawn from `seed`: the same on every device. It changes nothing yet, unless
    /// its [`Init`] says so. On an autodiff device it can be trained.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, llama: &Llama, seed: u64, device: &Device) -> Result<AdapterWeights> {
        self.validate(&llama.config().into())?;
        let prompts =
            self.prompts.as_ref().map(|prompts| prompts.init(llama.config(), seed, device));
        let v2 = self.v2.as_ref().map(|v2| v2.init(llama, device)).transpose()?;
        let lora = self.lora.as_ref().map(|lora| lora.init(llama.config(), seed, device));
        let image = self.image.as_ref();
        let image = image.map(|own| ImageCondition::init(own, llama.config(), seed, device));
        Ok(AdapterWeights { prompts: prompts.transpose()?, v2, lora: lora.transpose()?, image })
    }
}

/// What the prompts of an adapter look like. The defaults are the paper's for a 7B model, with
/// PEFT's gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptionPromptConfig {
    /// Prompt tokens of a layer, K.
    pub adapter_len: usize,
    /// Adapted layers.
    pub layers: AdaptedLayers,
    /// One gate a layer, or one a head.
    pub gate: Gate,
    /// What a gate's number passes through.
    pub activation: GateActivation,
    /// Whether each layer learns one more number, from 1, that multiplies its gates: `new_gate` of
    /// the original multi-modal release.
    #[serde(default)]
    pub factor: bool,
    /// Which weights make keys and values of prompts.
    #[serde(default)]
    pub projection: PromptProjection,
    /// Numbers that training starts from.
    #[serde(default)]
    pub init: PromptInit,
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

/// Which weights make keys and values of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptProjection {
    /// Those that texts go through, as Adapter V2 and LoRA change them: as in lit-llama.
    #[default]
    Adapted,
    /// The base's own, as in the original multi-modal release.
    Frozen,
}

/// What a gate passes through before it multiplies the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateActivation {
    /// Nothing, as in PEFT and the paper.
    Identity,
    /// tanh, as in the original release's training code.
    Tanh,
}

impl GateActivation {
    /// What a gate's number multiplies the branch by.
    pub fn apply(self, gate: f32) -> f32 {
        match self {
            Self::Identity => gate,
            Self::Tanh => gate.tanh(),
        }
    }
}

/// Where training starts.
///
/// With every gate at 0 a fresh adapter is exactly the base model. With the prompts at 0 as well
/// nothing would ever learn: a gate's gradient comes from its prompts and theirs from the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PromptInit {
    /// Standard deviation of the prompts' normal distribution.
    pub prompt_std: f64,
    /// Mean of the gates.
    pub gate: f64,
    /// Standard deviation of the gates; above 0 only to show what the zero is good for.
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
    /// Checks the prompts against a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, n_layers: usize) -> Result<()> {
        // Far beyond any use, and near enough for every size made of it to fit.
        if !(1..=1 << 16).contains(&self.adapter_len) {
            let found = self.adapter_len.to_string();
            return Err(Error::Config { field: "adapter_len", found, expected: "1 to 65536" });
        }
        self.layers.indices(n_layers)?;
        let PromptInit { prompt_std, gate, gate_std } = self.init;
        let fits = |x: f64| (x as f32).is_finite();
        if ![prompt_std, gate, gate_std].into_iter().all(fits) || prompt_std < 0.0 || gate_std < 0.0
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
                found: "0 for the prompts and 0 for the gate".into(),
                expected: "one of them above 0: from two zeros nothing is ever learned",
            });
        }
        Ok(())
    }

    /// Gates of a layer in a model of `n_heads` heads.
    pub fn gates_per_layer(&self, n_heads: usize) -> usize {
        match self.gate {
            Gate::Scalar => 1,
            Gate::PerHead => n_heads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_layers_than_the_model_has_are_refused() {
        let config = AdaptionPromptConfig { layers: AdaptedLayers::Last(4), ..Default::default() };
        let error = config.validate(3).unwrap_err();
        assert_eq!(error.to_string(), "the adapter wants 4 layers, the model has 3");
        assert!(config.validate(4).is_ok());
    }

    #[test]
    fn two_zeros_are_refused() {
        let init = PromptInit { prompt_std: 0.0, ..PromptInit::default() };
        let config =
            AdaptionPromptConfig { layers: AdaptedLayers::Last(1), init, ..Default::default() };
        assert!(config.validate(3).unwrap_err().to_string().contains("nothing is ever learned"));
        let init = PromptInit { gate_std: 0.5, ..init };
        assert!(AdaptionPromptConfig { init, ..config }.validate(3).is_ok());
    }
}
