//! Pictures ─► encoder ─► the numbers of it that are wanted, as features.

use burn::tensor::{DType, Device, Tensor};
use image::RgbImage;
use llama::read_back;
use serde::{Deserialize, Serialize};

use crate::config::EncoderConfig;
use crate::encoder::{Encoder, class_token};
use crate::error::{Error, Result};
use crate::load::EncoderSource;
use crate::preprocess::Preprocessing;

/// Which of an encoder's numbers are features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Pixels a side at which pictures are looked at.
    pub image_size: usize,
    /// States of tokens, put side by side: several are features of several scales.
    pub states: Vec<HiddenState>,
    /// Which tokens.
    pub tokens: TokenSelection,
}

/// A state that a token passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenState {
    /// What the n-th block made of it; 0 is what goes into the first.
    Layer(usize),
    /// The last block's, through the final norm.
    Normed,
    /// That in the space that CLIP shares with texts.
    Projected,
}

/// Tokens of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenSelection {
    /// The one that gathers what the whole picture shows.
    Class,
    /// That, and one for each patch.
    All,
}

impl FeatureSpec {
    /// The whole picture at several scales: the class token a quarter, a half and three quarters of
    /// the way up, and at the end.
    ///
    /// Source: arXiv 2303.16199, section 3.4, which does not say where; these are ours.
    pub fn global(config: &EncoderConfig, image_size: usize) -> Self {
        let quarter = |part: usize| HiddenState::Layer((config.n_layers * part / 4).max(1));
        let mut states = vec![quarter(1), quarter(2), quarter(3), HiddenState::Normed];
        states.dedup();
        Self { image_size, states, tokens: TokenSelection::Class }
    }

    /// All tokens at the end, in the shared space of a CLIP.
    ///
    /// Source: the original multi-modal release, `clip_encode_image`.
    pub fn all_tokens(config: &EncoderConfig, image_size: usize) -> Self {
        let state =
            if config.projection.is_some() { HiddenState::Projected } else { HiddenState::Normed };
        Self { image_size, states: vec![state], tokens: TokenSelection::All }
    }

    /// Width of a token's features.
    ///
    /// # Errors
    /// [`Error::Reading`] if the encoder has no such state, or none is wanted.
    pub fn width(&self, config: &EncoderConfig) -> Result<usize> {
        let wrong = |state: &HiddenState, expected: String| Error::Reading {
            found: format!("{state:?}"),
            expected,
        };
        let width = |state: &HiddenState| match *state {
            HiddenState::Layer(layer) if layer > config.n_layers => {
                Err(wrong(state, format!("a layer from 0 to {}", config.n_layers)))
            }
            HiddenState::Layer(_) | HiddenState::Normed => Ok(config.d_model),
            HiddenState::Projected => config
                .projection
                .ok_or_else(|| wrong(state, "a state of an encoder without projection".into())),
        };
        if self.states.is_empty() {
            let found = "no states".into();
            return Err(Error::Reading { found, expected: "at least one".into() });
        }
        self.states.iter().map(width).sum()
    }

    /// Tokens of a picture.
    pub fn n_tokens(&self, config: &EncoderConfig) -> usize {
        match self.tokens {
            TokenSelection::Class => 1,
            TokenSelection::All => 1 + config.grid(self.image_size).pow(2),
        }
    }
}

/// An encoder and how it is used: pictures go in, features come out.
#[derive(Debug, Clone)]
pub struct FeatureExtractor {
    encoder: Encoder,
    preprocessing: Preprocessing,
    spec: FeatureSpec,
    width: usize,
}

impl FeatureExtractor {
    /// Loads an encoder for a way of reading it.
    ///
    /// # Errors
    /// [`Error::Reading`], and as [`EncoderSource::load`].
    pub fn load(source: &EncoderSource, reading: FeatureSpec, device: &Device) -> Result<Self> {
        let width = reading.width(source.config())?;
        let encoder = source.load(reading.image_size, device)?;
        let preprocessing = source.preprocessing().at(reading.image_size);
        Ok(Self { encoder, preprocessing, spec: reading, width })
    }

    /// How the encoder is read.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Tokens of a picture, and numbers of a token.
    pub fn shape(&self) -> [usize; 2] {
        [self.spec.n_tokens(self.encoder.config()), self.width]
    }

    /// Looks at pictures.
    ///
    /// # Shapes
    /// - output: `[pictures, tokens, width]`, as [`shape`](Self::shape) says
    ///
    /// # Panics
    /// If there are no pictures.
    pub fn encode(&self, pictures: &[RgbImage]) -> Tensor<3> {
        assert!(!pictures.is_empty(), "no pictures to look at");
        let pixels = self.preprocessing.pixels(pictures, &self.encoder.device());
        let layer = |state: &HiddenState| match state {
            HiddenState::Layer(layer) => Some(*layer),
            _ => None,
        };
        let layers = self.spec.states.iter().filter_map(layer).collect::<Vec<_>>();
        let features = self.encoder.forward(pixels, &layers);
        let mut layers = features.hidden_states.into_iter();
        let states = self.spec.states.iter().map(|state| match state {
            HiddenState::Layer(_) => layers.next().expect("one for each layer asked for"),
            HiddenState::Normed => features.normed.clone(),
            HiddenState::Projected => features.projected.clone().expect("its width was asked for"),
        });
        let states = states.map(|state| match self.spec.tokens {
            TokenSelection::Class => class_token(&state).unsqueeze_dim(1),
            TokenSelection::All => state,
        });
        Tensor::cat(states.collect(), 2)
    }

    /// What an adapter that learns with it remembers; `name` is what the encoder is called.
    ///
    /// # Errors
    /// [`Error::Files`] if the device fails.
    pub fn info(&self, name: &str) -> Result<EncoderInfo> {
        let reading = self.spec.clone();
        Ok(EncoderInfo { name: name.into(), spec: reading, fingerprint: self.fingerprint()? })
    }

    /// A few numbers of what it makes of a fixed picture.
    fn fingerprint(&self) -> Result<Vec<f32>> {
        const KEPT: usize = 8;
        let picture = RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([(8 * x) as u8, (8 * y) as u8, (4 * (x + y)) as u8])
        });
        let features = self.encode(&[picture]);
        let [_one, _tokens, width] = features.dims();
        let first = read_back(features.slice([0..1, 0..1, 0..width.min(KEPT)]))?;
        Ok(first.convert_dtype(DType::F32).iter::<f32>().collect())
    }
}

/// What an adapter remembers of the encoder that it learned with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderInfo {
    /// Its path, or another name.
    pub name: String,
    /// How it is read.
    pub spec: FeatureSpec,
    /// A few numbers of what it makes of a fixed picture; empty where they are not known.
    #[serde(default)]
    pub fingerprint: Vec<f32>,
}

impl EncoderInfo {
    /// Checks that an encoder is the one that is remembered, on whatever device.
    ///
    /// # Errors
    /// [`Error::EncoderMismatch`]; [`Error::Files`] if the device fails.
    pub fn check(&self, viewer: &FeatureExtractor) -> Result<()> {
        /// More than devices differ by, less than encoders do.
        const CLOSE: f32 = 0.02;
        let found = viewer.fingerprint()?;
        let scale = found.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
        let is_same = viewer.spec == self.spec
            && (self.fingerprint.is_empty()
                || self.fingerprint.len() == found.len()
                    && self
                        .fingerprint
                        .iter()
                        .zip(&found)
                        .all(|(a, b)| (a - b).abs() < CLOSE * scale));
        if is_same { Ok(()) } else { Err(Error::EncoderMismatch { name: self.name.clone() }) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn small() -> EncoderConfig {
        let config = r#"{"model_type": "dinov2", "hidden_size": 384, "num_attention_heads": 6}"#;
        EncoderConfig::parse(Path::new("config.json"), config).unwrap()
    }

    #[test]
    fn the_widths_of_states_add_up() {
        let reading = FeatureSpec::global(&small(), 70);
        let layers = [
            HiddenState::Layer(3),
            HiddenState::Layer(6),
            HiddenState::Layer(9),
            HiddenState::Normed,
        ];
        assert_eq!(reading.states, layers);
        assert_eq!((reading.width(&small()).unwrap(), reading.n_tokens(&small())), (1536, 1));
        let all = FeatureSpec::all_tokens(&small(), 70);
        assert_eq!((all.width(&small()).unwrap(), all.n_tokens(&small())), (384, 26));
    }

    #[test]
    fn a_state_that_the_encoder_lacks_is_refused() {
        let reading =
            |state| FeatureSpec { states: vec![state], ..FeatureSpec::all_tokens(&small(), 70) };
        let error = reading(HiddenState::Layer(13)).width(&small()).unwrap_err().to_string();
        assert_eq!(error, "features: Layer(13), expected a layer from 0 to 12");
        assert!(reading(HiddenState::Projected).width(&small()).is_err());
        let none = FeatureSpec { states: Vec::new(), ..FeatureSpec::all_tokens(&small(), 70) };
        assert!(none.width(&small()).is_err());
    }

    #[test]
    fn a_reading_is_written_as_it_is_said() {
        let reading = FeatureSpec::global(&small(), 70);
        let text = serde_json::to_string(&reading).unwrap();
        let states = r#"[{"layer":3},{"layer":6},{"layer":9},"normed"]"#;
        assert_eq!(text, format!(r#"{{"image_size":70,"states":{states},"tokens":"class"}}"#));
        assert_eq!(serde_json::from_str::<FeatureSpec>(&text).unwrap(), reading);
    }
}
