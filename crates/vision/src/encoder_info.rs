//! Identity of the encoder that an adapter was trained with.

use burn::tensor::DType;
use image::RgbImage;
use llama::read_back;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::feature_extractor::FeatureExtractor;
use crate::feature_spec::FeatureSpec;

/// The encoder of a multimodal adapter, as recorded in the adapter's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderInfo {
    /// Path or other name of the encoder.
    pub name: String,
    /// Features that the adapter was trained with.
    #[serde(rename = "reading")]
    pub spec: FeatureSpec,
    /// First features of a fixed image; empty if unknown.
    #[serde(default)]
    pub fingerprint: Vec<f32>,
}

impl EncoderInfo {
    /// Checks that an encoder is the recorded one, on any device.
    ///
    /// # Errors
    /// [`Error::EncoderMismatch`]; [`Error::Model`] if the device fails.
    pub fn check(&self, extractor: &FeatureExtractor) -> Result<()> {
        /// More than the difference between devices, less than that between encoders; relative to the
        /// largest value.
        const TOLERANCE: f32 = 0.02;
        let found = extractor.fingerprint()?;
        let scale = found.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
        let is_close = |(a, b): (&f32, &f32)| (a - b).abs() < TOLERANCE * scale;
        let matches = self.fingerprint.is_empty()
            || self.fingerprint.len() == found.len()
                && self.fingerprint.iter().zip(&found).all(is_close);
        if matches && *extractor.spec() == self.spec {
            Ok(())
        } else {
            Err(Error::EncoderMismatch { name: self.name.clone() })
        }
    }
}

impl FeatureExtractor {
    /// The record of this encoder for the files of an adapter.
    ///
    /// # Errors
    /// [`Error::Model`] if the device fails.
    pub fn info(&self, name: &str) -> Result<EncoderInfo> {
        let (spec, fingerprint) = (self.spec().clone(), self.fingerprint()?);
        Ok(EncoderInfo { name: name.into(), spec, fingerprint })
    }

    /// The first features of a fixed image.
    fn fingerprint(&self) -> Result<Vec<f32>> {
        const FINGERPRINT_LEN: usize = 8;
        let image = RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([(8 * x) as u8, (8 * y) as u8, (4 * (x + y)) as u8])
        });
        let features = self.encode(&[image]);
        let [_one, _tokens, width] = features.dims();
        let first = read_back(features.slice([0..1, 0..1, 0..width.min(FINGERPRINT_LEN)]))?;
        Ok(first.convert_dtype(DType::F32).iter::<f32>().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keys_are_those_of_saved_adapters() {
        let text = r#"{"name":"a","reading":{"image_size":28,"states":["normed"],"tokens":"all"},"fingerprint":[0.5]}"#;
        let info = serde_json::from_str::<EncoderInfo>(text).unwrap();
        assert_eq!(serde_json::to_string(&info).unwrap(), text);
    }
}
