//! Default settings of `train`, `eval` and `plan`.

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
use train::{FineTuningMethod, TrainConfig};

use crate::error::Error;
use crate::failure::Result;
use crate::model::ModelArgs;

/// Refuses a model without data: the built-in instructions are about the world of the built-in
/// model.
pub fn require_data(model: &ModelArgs) -> Result {
    if model.model.is_none() {
        return Ok(());
    }
    let hint = "pass a JSON or JSON Lines file with `instruction`, `input` and `output`; the \
                built-in instructions are for the built-in model only";
    Err(Error::usage_with_hint("--model requires --data", hint).into())
}

/// The built-in data set for a multimodal adapter or for a text adapter.
pub fn built_in_dataset(multimodal: bool) -> &'static built_in::Dataset {
    if multimodal { &built_in::IMAGE_QUESTIONS } else { &built_in::INSTRUCTIONS }
}

/// Prompts for a model of `n_layers` layers, as in the paper or as the built-in model needs them.
/// The first `fusion_layers` layers are not adapted: their prompts are image tokens.
pub fn prompt_config(
    n_layers: usize,
    built_in: bool,
    fusion_layers: usize,
) -> AdaptionPromptConfig {
    // The paper does not adapt the first two of 32 layers.
    let unadapted = fusion_layers.max(if built_in { 1 } else { 2 });
    let layers = AdaptedLayers::Last(n_layers.saturating_sub(unadapted).max(1));
    AdaptionPromptConfig { layers, ..Default::default() }
}

/// Peak learning rate: the usual one of the method, or the one of the built-in model.
pub fn learning_rate(method: &FineTuningMethod, built_in: bool) -> f64 {
    let (usual_rate, built_in_rate) = match method {
        FineTuningMethod::Full => (1e-4, 1e-3),
        FineTuningMethod::Adapter(AdapterConfig { v2: Some(_), .. }) => (3e-3, 1e-2),
        FineTuningMethod::Adapter(AdapterConfig { lora: Some(_), .. }) => (1e-3, 1e-2),
        FineTuningMethod::Adapter(_) => (TrainConfig::default().learning_rate, 3e-2),
    };
    if built_in { built_in_rate } else { usual_rate }
}
