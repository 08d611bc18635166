//! Shape of an image condition.

use llama::LlamaConfig;
use llama::config::ModelShape;
use serde::{Deserialize, Serialize};
use vision::EncoderInfo;

use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::part::{PartConfig, PartSettings, PromptShape};

/// How image features become tokens of the model's width, and how the tokens join the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Width of the encoder's features.
    pub features: usize,
    /// The projector from features to tokens.
    pub form: ImageProjectorConfig,
    /// How the tokens join the model.
    pub fusion: ImageFusion,
    /// The encoder of the features; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderInfo>,
}

/// The projector from features to tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageProjectorConfig {
    /// One token per image, from one feature vector per image.
    ///
    /// Source: arXiv 2303.16199, section 3.4.
    Global {
        /// Hidden width of the two-layer MLP.
        hidden: usize,
    },
    /// One token per trainable visual query. The queries attend to all feature tokens of an image.
    ///
    /// Source: the original multi-modal release, `LLaMA_adapter.forward_visual`.
    Queries {
        /// Number of visual queries.
        count: usize,
        /// Width of the transformer blocks.
        width: usize,
        /// Number of transformer blocks.
        blocks: usize,
        /// Attention heads of a block.
        heads: usize,
    },
}

/// How image tokens join the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFusion {
    /// The tokens times a gate are added to the prompt of every adapted layer. A single token is added
    /// to each prompt token.
    ///
    /// Source: arXiv 2303.16199, equation 9; the original multi-modal release, which has no gate
    /// (it is 1).
    Prompts {
        /// Initial gate. At 0 every prompt equals the prompt without an image.
        gate: f64,
    },
    /// Early fusion: the tokens are the prompts of the first layers, with zero-init gates of their own.
    /// The adaption prompt is in higher layers and does not depend on the image.
    ///
    /// Source: arXiv 2304.15010, section 3.3.
    Early {
        /// Number of layers.
        layers: usize,
        /// Gates per layer.
        gate: Gate,
        /// Activation of the gates.
        activation: GateActivation,
    },
}

impl ImageConfig {
    /// Checks the config against the prompts of the same adapter and a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::TooManyLayers`].
    pub fn validate(&self, prompts: Option<&PromptShape>, n_layers: usize) -> Result<()> {
        const SIZES: std::ops::RangeInclusive<usize> = 1..=1 << 16;
        let invalid = |field, found, expected| Err(Error::Config { field, found, expected });
        let sizes = match self.form {
            ImageProjectorConfig::Global { hidden } => vec![("the image's hidden width", hidden)],
            ImageProjectorConfig::Queries { count, width, blocks, heads } => vec![
                ("the number of image queries", count),
                ("the image blocks' width", width),
                // Without a block the queries would not depend on the image.
                ("the number of image blocks", blocks),
                ("the image blocks' heads", heads),
            ],
        };
        for (field, size) in [("the features' width", self.features)].into_iter().chain(sizes) {
            if !SIZES.contains(&size) {
                return invalid(field, size.to_string(), "1 to 65536");
            }
        }
        if let ImageProjectorConfig::Queries { width, heads, .. } = self.form
            && !width.is_multiple_of(heads)
        {
            let expected = "a divisor of their width";
            return invalid("the image blocks' heads", heads.to_string(), expected);
        }
        match self.fusion {
            ImageFusion::Prompts { gate } => {
                let Some(prompts) = prompts else {
                    let expected = "prompts, which the image tokens are added to";
                    return invalid("the adapter", "images alone".into(), expected);
                };
                if !(gate as f32).is_finite() {
                    return invalid("the image gate", gate.to_string(), "a finite number");
                }
                if self.n_tokens() != 1 && self.n_tokens() != prompts.adapter_len {
                    let found = self.n_tokens().to_string();
                    let expected = "the number of prompt tokens";
                    return invalid("the number of image queries", found, expected);
                }
            }
            ImageFusion::Early { layers, .. } => {
                if layers > n_layers {
                    return Err(Error::TooManyLayers { requested: layers, available: n_layers });
                }
                let first = prompts.and_then(|prompts| prompts.layers.first().copied());
                if layers == 0 || first.is_some_and(|first| first < layers) {
                    let field = "the number of early-fusion layers";
                    let expected = "at least 1, and all of them below the first adapted layer";
                    return invalid(field, layers.to_string(), expected);
                }
            }
        }
        Ok(())
    }

    /// Tokens per image.
    pub fn n_tokens(&self) -> usize {
        match self.form {
            ImageProjectorConfig::Global { .. } => 1,
            ImageProjectorConfig::Queries { count, .. } => count,
        }
    }

    /// Values of the projector's matrices, by far most of the parameters.
    pub(super) fn n_matrix_parameters(&self, d_model: usize) -> usize {
        match self.form {
            ImageProjectorConfig::Global { hidden } => hidden * (self.features + d_model),
            ImageProjectorConfig::Queries { count, width, blocks, .. } => {
                // Four square matrices of the attention, and two that are four times as wide.
                width * (self.features + count + d_model) + 12 * width * width * blocks
            }
        }
    }

    /// Biases and norms of the projector, statistics and gates.
    fn n_vector_parameters(&self, d_model: usize, n_heads: usize) -> usize {
        let projector = match self.form {
            ImageProjectorConfig::Global { hidden } => 2 * self.features + hidden + 3 * d_model,
            // A block has two norms, four biases of the attention and two of the MLP.
            ImageProjectorConfig::Queries { width, blocks, .. } => {
                3 * width + 13 * width * blocks + 3 * d_model
            }
        };
        let gates = match self.fusion {
            ImageFusion::Prompts { .. } => 1,
            ImageFusion::Early { layers, gate, .. } => layers * gate.count(n_heads),
        };
        2 * self.features + projector + gates
    }

    /// Number of layers whose prompts are the image tokens.
    pub fn n_early_fusion_layers(&self) -> usize {
        match self.fusion {
            ImageFusion::Prompts { .. } => 0,
            ImageFusion::Early { layers, .. } => layers,
        }
    }
}

impl PartConfig for ImageConfig {
    fn validate(&self, prompts: Option<&PromptShape>, model: &ModelShape) -> Result<()> {
        self.validate(prompts, model.n_layers)
    }

    fn n_parameters(&self, model: &LlamaConfig) -> u64 {
        let LlamaConfig { d_model, n_heads, .. } = *model;
        let matrices = self.n_matrix_parameters(d_model);
        (matrices + self.n_vector_parameters(d_model, n_heads)) as u64
    }

    fn first_layer(&self, _model: &ModelShape) -> Option<usize> {
        (self.n_early_fusion_layers() > 0).then_some(0)
    }
}

impl PartSettings for ImageConfig {
    const KEYS: &'static [&'static str] = &["encoder", "features", "form", "fusion"];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(adapter_len: usize, layers: std::ops::Range<usize>) -> PromptShape {
        PromptShape::new(adapter_len, layers.collect())
    }

    #[test]
    fn image_fusion_with_prompts_needs_matching_prompts() {
        let form = ImageProjectorConfig::Queries { count: 4, width: 6, blocks: 1, heads: 2 };
        let fusion = ImageFusion::Prompts { gate: 1.0 };
        let config = ImageConfig { features: 8, form, fusion, encoder: None };
        assert!(config.validate(Some(&prompts(4, 1..3)), 3).is_ok());
        let error = config.validate(Some(&prompts(5, 1..3)), 3).unwrap_err().to_string();
        assert!(error.contains("queries is 4, expected the number of prompt tokens"), "{error}");
        assert!(config.validate(None, 3).is_err());
        let form = ImageProjectorConfig::Queries { count: 4, width: 6, blocks: 1, heads: 4 };
        assert!(ImageConfig { form, ..config }.validate(Some(&prompts(4, 1..3)), 3).is_err());
    }

    #[test]
    fn early_fusion_layers_must_be_below_the_prompts() {
        let config = |layers| ImageConfig {
            features: 8,
            form: ImageProjectorConfig::Global { hidden: 4 },
            fusion: ImageFusion::Early {
                layers,
                gate: Gate::Scalar,
                activation: GateActivation::Identity,
            },
            encoder: None,
        };
        assert!(config(2).validate(Some(&prompts(4, 2..4)), 4).is_ok());
        assert!(config(4).validate(None, 4).is_ok());
        let error = config(3).validate(Some(&prompts(4, 2..4)), 4).unwrap_err().to_string();
        assert!(error.contains("below the first adapted layer"), "{error}");
        assert!(config(0).validate(None, 4).is_err());
        assert!(matches!(config(5).validate(None, 4), Err(Error::TooManyLayers { .. })));
    }
}
