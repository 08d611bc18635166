//! What is in an adapter's files, without the model that it was made for.

use std::path::Path;

use serde::Serialize;

use crate::config::{Gate, GateActivation};
use crate::data::{AdapterData, V2Data};
use crate::error::Result;
use crate::files::read_for_summary;
use crate::image::ImageConfig;
use crate::v2::V2Scale;

/// What is in an adapter, to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// What the file calls the base model.
    pub base_model: Option<String>,
    /// Its gated prompts.
    pub prompts: Option<PromptSummary>,
    /// Its scales, biases and norms.
    pub v2: Option<V2Summary>,
    /// Its low-rank products.
    pub lora: Option<LoraSummary>,
    /// How it sees pictures.
    pub image: Option<ImageConfig>,
    /// Numbers that training changed.
    pub n_parameters: usize,
}

/// Prompts of an [`AdapterSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptSummary {
    /// Prompt tokens of a layer.
    pub adapter_len: usize,
    /// Width of the model that the prompts are for.
    pub d_model: usize,
    /// How many gates a layer has.
    pub gate: Gate,
    /// What they pass through.
    pub activation: GateActivation,
    /// From the lowest adapted layer to the highest.
    pub layers: Vec<PromptLayerSummary>,
}

/// One adapted layer of a [`PromptSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptLayerSummary {
    /// Its index in the model.
    pub layer: usize,
    /// What the branch is multiplied by, one number or one a head; all 0 where nothing was
    /// learned.
    pub gates: Vec<f32>,
    /// Root of the mean square of the prompt's numbers; about 1 in a fresh adapter.
    pub prompt_rms: f32,
}

/// Adapter V2 of an [`AdapterSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct V2Summary {
    /// Where the scales are.
    pub scale: V2Scale,
    /// Linear layers with a scale or a bias.
    pub linears: usize,
    /// Norms that learned.
    pub norms: usize,
    /// Root of the mean square distance of the scales from 1.
    pub scale_rms: f32,
    /// Root of the mean square of the biases.
    pub bias_rms: f32,
}

/// LoRA of an [`AdapterSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoraSummary {
    /// Inner width.
    pub rank: usize,
    /// The products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Linear layers with a product.
    pub linears: usize,
}

impl AdapterSummary {
    /// Reads an adapter of any [`Format`](crate::files::Format), without a model.
    ///
    /// # Errors
    /// As [`files::read`](crate::files::read), but for [`Error::Unknown`](crate::Error::Unknown).
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::from_data(&read_for_summary(path)?))
    }

    /// Sums an adapter up.
    pub fn from_data(data: &AdapterData) -> Self {
        let prompts = data.prompts.as_ref().map(|prompts| PromptSummary {
            adapter_len: prompts.adapter_len,
            d_model: prompts.d_model,
            gate: prompts.gate,
            activation: prompts.activation,
            layers: prompts
                .layers
                .iter()
                .map(|(&layer, own)| PromptLayerSummary {
                    layer,
                    gates: prompts.effective_gates(own),
                    prompt_rms: rms(own.prompt.iter().copied()),
                })
                .collect(),
        });
        let lora = data.lora.as_ref().map(|lora| LoraSummary {
            rank: lora.rank,
            alpha: lora.alpha,
            linears: lora.pairs.len(),
        });
        Self {
            base_model: data.base.name.clone(),
            prompts,
            v2: data.v2.as_ref().map(V2Summary::of),
            lora,
            image: data.image.as_ref().map(|own| own.config.clone()),
            n_parameters: data.n_parameters(),
        }
    }
}

impl V2Summary {
    fn of(v2: &V2Data) -> Self {
        let linears = || v2.linears.values();
        let scales = linears().flat_map(|own| own.scale.iter().flatten().map(|x| x - 1.0));
        let biases = linears().flat_map(|own| own.bias.iter().flatten().copied());
        Self {
            scale: v2.scale,
            linears: v2.linears.len(),
            norms: v2.norms.len(),
            scale_rms: rms(scales),
            bias_rms: rms(biases),
        }
    }
}

fn rms(numbers: impl Iterator<Item = f32>) -> f32 {
    let (count, squares) = numbers.fold((0_usize, 0.0), |(n, sum), x| (n + 1, sum + x * x));
    (squares / count.max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn pefts_adapter_is_summed_up() {
        let folder = testing::golden_folder().join("llama-gqa-tied/adapter");
        let summary = AdapterSummary::read(&folder).unwrap();
        let prompts = summary.prompts.unwrap();
        assert_eq!((prompts.adapter_len, prompts.d_model), (5, 32));
        let layers = prompts.layers.iter().map(|layer| layer.layer);
        assert_eq!(layers.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(summary.n_parameters, 2 * (5 * 32 + 1));
        assert!(prompts.layers.iter().all(|layer| layer.gates.iter().all(|&gate| gate != 0.0)));
    }

    #[test]
    fn a_folder_without_tensors_is_no_adapter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(AdapterSummary::read(folder.path()), Err(Error::NotAnAdapter { .. })));
    }
}
