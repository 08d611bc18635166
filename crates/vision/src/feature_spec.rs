//! Which hidden states of which tokens are the features of an image.

use serde::{Deserialize, Serialize};

use crate::config::EncoderConfig;
use crate::error::{Error, Result};

/// The features of an image: an image size, hidden states and tokens.
///
/// Saved with an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Height and width of the encoder's input, in pixels.
    pub image_size: usize,
    /// Hidden states, concatenated along the width; several give features at several scales.
    pub states: Vec<HiddenState>,
    /// Selected tokens.
    pub tokens: TokenSelection,
}

/// A hidden state of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenState {
    /// Output of the n-th block; 0 is the input of the first.
    Layer(usize),
    /// Output of the last block after the final norm.
    Normed,
    /// The normed output in CLIP's joint image-text space.
    Projected,
}

/// Tokens of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TokenSelection {
    /// The class token.
    Class,
    /// The class token and one token per patch.
    All,
}

impl FeatureSpec {
    /// Multi-scale global features: the class token at a quarter, a half and three quarters of the
    /// layers, and after the final norm.
    ///
    /// Source: arXiv 2303.16199, which does not name the layers; these are ours.
    pub fn global(config: &EncoderConfig, image_size: usize) -> Self {
        let quarter = |part: usize| HiddenState::Layer((config.n_layers * part / 4).max(1));
        let mut states = vec![quarter(1), quarter(2), quarter(3), HiddenState::Normed];
        states.dedup();
        Self { image_size, states, tokens: TokenSelection::Class }
    }

    /// All tokens after the final norm, and after the projection if there is one.
    ///
    /// Source: the original multi-modal release, `clip_encode_image`.
    pub fn all_tokens(config: &EncoderConfig, image_size: usize) -> Self {
        let state =
            if config.projection.is_some() { HiddenState::Projected } else { HiddenState::Normed };
        Self { image_size, states: vec![state], tokens: TokenSelection::All }
    }

    /// Width of the features of one token.
    ///
    /// # Errors
    /// [`Error::FeatureSpec`] if the encoder lacks a hidden state or none is requested.
    pub fn width(&self, config: &EncoderConfig) -> Result<usize> {
        let invalid = |state: &HiddenState, expected: String| Error::FeatureSpec {
            found: format!("{state:?}"),
            expected,
        };
        let width = |state: &HiddenState| match *state {
            HiddenState::Layer(layer) if layer > config.n_layers => {
                Err(invalid(state, format!("a layer from 0 to {}", config.n_layers)))
            }
            HiddenState::Layer(_) | HiddenState::Normed => Ok(config.d_model),
            HiddenState::Projected => config.projection.ok_or_else(|| {
                invalid(state, "a layer or Normed: the encoder has no projection".into())
            }),
        };
        if self.states.is_empty() {
            let found = "no hidden states".into();
            return Err(Error::FeatureSpec { found, expected: "at least one".into() });
        }
        self.states.iter().map(width).sum()
    }

    /// Selected tokens per image.
    pub fn n_tokens(&self, config: &EncoderConfig) -> usize {
        match self.tokens {
            TokenSelection::Class => 1,
            TokenSelection::All => 1 + config.grid(self.image_size).pow(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn small_config() -> EncoderConfig {
        let config = r#"{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6}"#;
        EncoderConfig::parse(Path::new("config.json"), config).unwrap()
    }

    #[test]
    fn feature_width_is_the_sum_over_states() {
        let config = small_config();
        let spec = FeatureSpec::global(&config, 70);
        let states = [
            HiddenState::Layer(3),
            HiddenState::Layer(6),
            HiddenState::Layer(9),
            HiddenState::Normed,
        ];
        assert_eq!(spec.states, states);
        assert_eq!((spec.width(&config).unwrap(), spec.n_tokens(&config)), (1536, 1));
        let all = FeatureSpec::all_tokens(&config, 70);
        assert_eq!((all.width(&config).unwrap(), all.n_tokens(&config)), (384, 26));
    }

    #[test]
    fn unavailable_hidden_state_is_refused() {
        let config = small_config();
        let width =
            |states| FeatureSpec { states, ..FeatureSpec::all_tokens(&config, 70) }.width(&config);
        let error = width(vec![HiddenState::Layer(13)]).unwrap_err().to_string();
        assert_eq!(error, "image features: Layer(13), expected a layer from 0 to 12");
        assert!(width(vec![HiddenState::Projected]).is_err());
        assert!(width(Vec::new()).is_err());
    }

    #[test]
    fn feature_spec_round_trips_through_json() {
        let spec = FeatureSpec::global(&small_config(), 70);
        let text = serde_json::to_string(&spec).unwrap();
        let states = r#"[{"layer":3},{"layer":6},{"layer":9},"normed"]"#;
        assert_eq!(text, format!(r#"{{"image_size":70,"states":{states},"tokens":"class"}}"#));
        assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), spec);
    }
}
