//! images ─► preprocessing ─► encoder ─► hidden states and tokens of the spec ─► features

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use crate::encoder::{Encoder, class_token};
use crate::error::Result;
use crate::feature_spec::{FeatureSpec, HiddenState, TokenSelection};
use crate::load::EncoderSource;
use crate::preprocess::Preprocessing;

/// A frozen encoder with its preprocessing: images in, features out.
#[derive(Debug, Clone)]
pub struct FeatureExtractor {
    encoder: Encoder,
    preprocessing: Preprocessing,
    spec: FeatureSpec,
    width: usize,
}

impl FeatureExtractor {
    /// Loads an encoder for the features of a spec.
    ///
    /// # Errors
    /// [`Error::FeatureSpec`](crate::Error::FeatureSpec); those of [`EncoderSource::load`].
    pub fn load(source: &EncoderSource, spec: FeatureSpec, device: &Device) -> Result<Self> {
        let width = spec.width(source.config())?;
        let encoder = source.load(spec.image_size, device)?;
        let preprocessing = source.preprocessing().with_image_size(spec.image_size);
        Ok(Self { encoder, preprocessing, spec, width })
    }

    /// The spec of the features.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Tokens per image.
    pub fn n_tokens(&self) -> usize {
        self.spec.n_tokens(self.encoder.config())
    }

    /// Width of the features of one token.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Encodes a batch of images.
    ///
    /// # Shapes
    /// - output: `[images, n_tokens, width]`
    ///
    /// # Panics
    /// If there are no images.
    pub fn encode(&self, images: &[RgbImage]) -> Tensor<3> {
        assert!(!images.is_empty(), "no images to encode");
        let pixels = self.preprocessing.pixels(images, &self.encoder.device());
        let layer = |state: &HiddenState| match state {
            HiddenState::Layer(layer) => Some(*layer),
            _ => None,
        };
        let layers = self.spec.states.iter().filter_map(layer).collect::<Vec<_>>();
        let output = self.encoder.forward(pixels, &layers);
        let mut layers = output.hidden_states.into_iter();
        let states = self.spec.states.iter().map(|state| match state {
            HiddenState::Layer(_) => layers.next().expect("one per requested layer"),
            HiddenState::Normed => output.normed.clone(),
            HiddenState::Projected => {
                output.projected.clone().expect("`load` has checked the projection")
            }
        });
        let states = states.map(|state| match self.spec.tokens {
            TokenSelection::Class => class_token(&state).unsqueeze_dim(1),
            TokenSelection::All => state,
        });
        Tensor::cat(states.collect(), 2)
    }
}
