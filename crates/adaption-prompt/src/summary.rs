//! What is in an adapter's folder, without the model that it was made for.

use std::path::Path;

use burn::tensor::DType;
use serde::Serialize;

use crate::config::{Activation, AdaptionPromptConfig};
use crate::error::{Error, Result};
use crate::peft::{TENSORS_FILE, family_of, gate_key, open_tensors, prompt_key, read_settings};

/// What is in an adapter, to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Its settings.
    pub config: AdaptionPromptConfig,
    /// What the file calls the base model.
    pub base_model: Option<String>,
    /// From the lowest adapted layer to the highest.
    pub layers: Vec<LayerSummary>,
    /// Numbers that training changed.
    pub n_parameters: usize,
    /// Size of the file of tensors.
    pub len_bytes: u64,
}

/// One adapted layer of an [`AdapterSummary`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Its index in the model.
    pub layer: usize,
    /// Width of the model that the prompt is for.
    pub d_model: usize,
    /// What the branch is multiplied by, one number or one a head; all 0 where nothing was
    /// learned.
    pub gates: Vec<f32>,
    /// Root of the mean square of the prompt's numbers; about 1 in a fresh adapter.
    pub prompt_rms: f32,
}

impl AdapterSummary {
    /// Reads an adapter's folder.
    ///
    /// # Errors
    /// [`Error::NotAnAdapter`], [`Error::ConfigFile`], [`Error::File`], or [`Error::Tensors`] if
    /// the tensors are not those of the settings.
    pub fn read(folder: &Path) -> Result<Self> {
        /// No model comes near.
        const MOST_LAYERS: usize = 10_000;
        let (config, base_model) = read_settings(folder)?;
        let file = open_tensors(folder)?;
        let numbers = |key: &str| -> Result<Vec<f32>> {
            Ok(file.read(key)?.convert_dtype(DType::F32).iter::<f32>().collect())
        };
        let mut layers = Vec::new();
        let family = family_of(&file);
        for layer in 0..MOST_LAYERS {
            let Some(family) = family else { break };
            let Some(shape) = file.shapes().get(&prompt_key(family, layer)) else { continue };
            let gates = numbers(&gate_key(family, layer))?.into_iter().map(|gate| {
                match config.activation {
                    Activation::Identity => gate,
                    Activation::Tanh => gate.tanh(),
                }
            });
            let gates = gates.collect();
            let prompt = numbers(&prompt_key(family, layer))?;
            let squares: f32 = prompt.iter().map(|x| x * x).sum();
            let prompt_rms = (squares / prompt.len().max(1) as f32).sqrt();
            let d_model = shape.last().copied().unwrap_or(0);
            layers.push(LayerSummary { layer, d_model, gates, prompt_rms });
        }
        if layers.len() != config.adapter_layers {
            let found = layers.len();
            let problem = format!("expected {} layers, found {found}", config.adapter_layers);
            let path = folder.join(TENSORS_FILE);
            return Err(Error::Tensors { path, problems: vec![problem] });
        }
        let n_parameters =
            file.shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
        Ok(Self { config, base_model, layers, n_parameters, len_bytes: file.len_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pefts_adapter_is_summed_up() {
        let folder = testing::golden_folder().join("llama-gqa-tied/adapter");
        let summary = AdapterSummary::read(&folder).unwrap();
        assert_eq!(summary.config.adapter_len, 5);
        let layers = summary.layers.iter().map(|layer| (layer.layer, layer.d_model));
        assert_eq!(layers.collect::<Vec<_>>(), [(1, 32), (2, 32)]);
        assert_eq!(summary.n_parameters, 2 * (5 * 32 + 1));
        assert!(summary.layers.iter().all(|layer| layer.gates.iter().all(|&gate| gate != 0.0)));
    }

    #[test]
    fn a_folder_without_tensors_is_no_adapter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(AdapterSummary::read(folder.path()), Err(Error::NotAnAdapter { .. })));
    }
}
