//! Errors of encoder files and images.

use std::path::PathBuf;

use checkpoint::settings::UnsupportedValue;
use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files or users can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the encoder cannot be read or written.
    #[error(transparent)]
    Files(#[from] checkpoint::Error),
    /// The device failed.
    #[error(transparent)]
    Model(#[from] llama::Error),
    /// A path without a supported image encoder.
    #[error("{path}: no image encoder here: {reason}")]
    NotAnEncoder {
        /// The given path.
        path: PathBuf,
        /// What is missing or not supported.
        reason: String,
    },
    /// An invalid or unsupported setting.
    #[error("{path}: {field} is {found}, expected {expected}")]
    Config {
        /// The file with the setting.
        path: PathBuf,
        /// Name of the setting.
        field: String,
        /// Its value.
        found: String,
        /// The supported values.
        expected: String,
    },
    /// The tensors do not match the config.
    #[error("{path}: the weights do not fit the config\n{report}")]
    Weights {
        /// The encoder.
        path: PathBuf,
        /// All missing, unexpected and misshapen tensors.
        report: Box<checkpoint::LoadReport>,
    },
    /// An image that cannot be read.
    #[error("{path}: cannot read the image: {reason}")]
    UnreadableImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image larger than the maximum.
    #[error(
        "{path}: the image is {width} x {height} pixels, the maximum is {max_side} on each side"
    )]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Maximum of both.
        max_side: u32,
    },
    /// An image of more bytes than the maximum.
    #[error("{path}: the {what} has {found} bytes, the maximum is {max}")]
    ImageBytes {
        /// The file.
        path: PathBuf,
        /// `file` or `decoded image`.
        what: &'static str,
        /// Its size in bytes.
        found: u64,
        /// The maximum in bytes.
        max: u64,
    },
    /// Features that the encoder does not have.
    #[error("image features: {found}, expected {expected}")]
    FeatureSpec {
        /// The requested hidden state.
        found: String,
        /// The available ones.
        expected: String,
    },
    /// Another encoder than the adapter was trained with.
    #[error("this is not the image encoder that the adapter was trained with, `{name}`")]
    EncoderMismatch {
        /// Name of that encoder.
        name: String,
    },
    /// An image size that is not a multiple of the patch size.
    #[error(
        "the image size {requested} is not a multiple of the patch size {patch_size}: use for example {}",
        (.requested / .patch_size).max(1) * .patch_size
    )]
    ImageSize {
        /// The requested size, in pixels per side.
        requested: usize,
        /// Pixels per side of a patch.
        patch_size: usize,
    },
}

impl From<UnsupportedValue> for Error {
    fn from(value: UnsupportedValue) -> Self {
        let UnsupportedValue { path, field, found, expected } = value;
        Self::Config { path, field, found, expected }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::Files(error) => return error.advice(),
            Self::Model(error) => return error.advice(),
            Self::NotAnEncoder { .. } => {
                "give a folder of a CLIP or DINOv2 model with config.json and model.safetensors or \
                 pytorch_model.bin, or a CLIP file in OpenAI's layout"
                    .into()
            }
            Self::Weights { .. } => {
                "config.json and the weights may belong to different encoders".into()
            }
            Self::UnreadableImage { .. } => "supported formats are JPEG, PNG and WebP".into(),
            Self::ImageTooLarge { .. } | Self::ImageBytes { .. } => "make it smaller".into(),
            Self::EncoderMismatch { .. } => Advice::GiveEncoder,
            Self::Config { .. } | Self::FeatureSpec { .. } | Self::ImageSize { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Files(error) => error.is_usage(),
            Self::Model(error) => error.is_usage(),
            _ => false,
        }
    }
}
