//! What an image condition looks like.

use serde::{Deserialize, Serialize};
use vision::EncoderInfo;

use crate::config::{AdaptionPromptConfig, Gate, GateActivation};
use crate::error::{Error, Result};

/// Shape of an image condition: how features of a picture become tokens as wide as the model, and
/// where these go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Numbers of a token of the features.
    pub features: usize,
    /// How tokens are made of features.
    pub form: ImageProjectorConfig,
    /// Where they go.
    pub fusion: ImageFusion,
    /// The encoder that the features come from, for those who use the adapter later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderInfo>,
}

/// How tokens are made of features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageProjectorConfig {
    /// One token of the features of a whole picture.
    ///
    /// Source: arXiv 2303.16199, section 3.4.
    Global {
        /// Width between the two layers.
        hidden: usize,
    },
    /// As many tokens as there are learned queries, which look at all tokens of a picture.
    ///
    /// Source: the original multi-modal release, `LLaMA_adapter.forward_visual`.
    Queries {
        /// Queries.
        count: usize,
        /// Width of a block's tokens.
        width: usize,
        /// Blocks.
        blocks: usize,
        /// Heads of a block.
        heads: usize,
    },
}

/// Where the tokens of a picture go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFusion {
    /// Times a gate, they are added to the prompt of every adapted layer; a single one to each of
    /// its tokens.
    ///
    /// Source: arXiv 2303.16199, equation 9; the original multi-modal release, which has no gate:
    /// it is 1.
    Prompts {
        /// What the gate starts at; at 0 every prompt is what it is without a picture.
        gate: f64,
    },
    /// They are the prompts of the first layers, which have gates of their own that start at 0. The
    /// adapter's other prompts are in higher layers, and see no picture.
    ///
    /// Source: arXiv 2304.15010, section 3.3.
    Early {
        /// How many layers.
        layers: usize,
        /// One gate a layer, or one a head.
        gate: Gate,
        /// What a gate's number passes through.
        activation: GateActivation,
    },
}

impl ImageConfig {
    /// Checks it beside the prompts of the same adapter.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::TooManyLayers`].
    pub fn validate(&self, prompts: Option<&AdaptionPromptConfig>, n_layers: usize) -> Result<()> {
        const SIZES: std::ops::RangeInclusive<usize> = 1..=1 << 16;
        let wrong = |field, found: String, expected| Err(Error::Config { field, found, expected });
        let sizes = match self.form {
            ImageProjectorConfig::Global { hidden } => vec![("the image's hidden width", hidden)],
            ImageProjectorConfig::Queries { count, width, blocks, heads } => vec![
                ("the number of image queries", count),
                ("the image blocks' width", width),
                // None at all makes no sense: the queries would not see the picture.
                ("the number of image blocks", blocks),
                ("the image blocks' heads", heads),
            ],
        };
        for (field, size) in [("the features' width", self.features)].into_iter().chain(sizes) {
            if !SIZES.contains(&size) {
                return wrong(field, size.to_string(), "1 to 65536");
            }
        }
        if let ImageProjectorConfig::Queries { width, heads, .. } = self.form
            && !width.is_multiple_of(heads)
        {
            return wrong("the image blocks' heads", heads.to_string(), "a divisor of their width");
        }
        match self.fusion {
            ImageFusion::Prompts { gate } => {
                let Some(prompts) = prompts else {
                    let expected = "prompts beside them, which the picture is added to";
                    return wrong("the adapter", "images alone".into(), expected);
                };
                if !(gate as f32).is_finite() {
                    return wrong("the image gate", gate.to_string(), "a finite number");
                }
                if !matches!(self.n_tokens(), 1) && self.n_tokens() != prompts.adapter_len {
                    let found = self.n_tokens().to_string();
                    return wrong(
                        "the number of image queries",
                        found,
                        "that of the prompt tokens",
                    );
                }
            }
            ImageFusion::Early { layers, .. } => {
                if layers > n_layers {
                    return Err(Error::TooManyLayers { requested: layers, available: n_layers });
                }
                let first = match prompts {
                    Some(prompts) => prompts.layers.indices(n_layers)?.first().copied(),
                    None => None,
                };
                if layers == 0 || first.is_some_and(|first| first < layers) {
                    let expected =
                        "at least 1, and all of them below the first layer with a prompt";
                    return wrong(
                        "the number of layers that see images",
                        layers.to_string(),
                        expected,
                    );
                }
            }
        }
        Ok(())
    }

    /// Tokens that a picture becomes.
    pub fn n_tokens(&self) -> usize {
        match self.form {
            ImageProjectorConfig::Global { .. } => 1,
            ImageProjectorConfig::Queries { count, .. } => count,
        }
    }

    /// Numbers of its matrices, beside which the others are few.
    pub(crate) fn n_matrix_parameters(&self, d_model: usize) -> usize {
        match self.form {
            ImageProjectorConfig::Global { hidden } => hidden * (self.features + d_model),
            ImageProjectorConfig::Queries { count, width, blocks, .. } => {
                // Four products of the attention, and two that are four times as wide.
                width * (self.features + count + d_model) + 12 * width * width * blocks
            }
        }
    }

    /// Layers whose prompts are the picture.
    pub fn n_early_fusion_layers(&self) -> usize {
        match self.fusion {
            ImageFusion::Prompts { .. } => 0,
            ImageFusion::Early { layers, .. } => layers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::AdaptedLayers;

    fn prompts(adapter_len: usize, layers: usize) -> AdaptionPromptConfig {
        AdaptionPromptConfig {
            adapter_len,
            layers: AdaptedLayers::Last(layers),
            ..Default::default()
        }
    }

    #[test]
    fn pictures_need_prompts_to_be_added_to() {
        let form = ImageProjectorConfig::Queries { count: 4, width: 6, blocks: 1, heads: 2 };
        let fusion = ImageFusion::Prompts { gate: 1.0 };
        let config = ImageConfig { features: 8, form, fusion, encoder: None };
        assert!(config.validate(Some(&prompts(4, 2)), 3).is_ok());
        let error = config.validate(Some(&prompts(5, 2)), 3).unwrap_err().to_string();
        assert!(error.contains("queries is 4, expected that of the prompt tokens"), "{error}");
        assert!(config.validate(None, 3).is_err());
        let form = ImageProjectorConfig::Queries { count: 4, width: 6, blocks: 1, heads: 4 };
        assert!(ImageConfig { form, ..config }.validate(Some(&prompts(4, 2)), 3).is_err());
    }

    #[test]
    fn early_layers_stay_below_the_prompts() {
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
        assert!(config(2).validate(Some(&prompts(4, 2)), 4).is_ok());
        assert!(config(4).validate(None, 4).is_ok());
        let error = config(3).validate(Some(&prompts(4, 2)), 4).unwrap_err().to_string();
        assert!(error.contains("below the first layer with a prompt"), "{error}");
        assert!(config(0).validate(None, 4).is_err());
        assert!(matches!(config(5).validate(None, 4), Err(Error::TooManyLayers { .. })));
    }
}
