//! What can go wrong with an encoder's files and with pictures.

use std::path::PathBuf;

use checkpoint::settings::UnsupportedValue;
use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files or users can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the encoder could not be read or is broken.
    #[error(transparent)]
    Files(#[from] checkpoint::Error),
    /// A device failed.
    #[error(transparent)]
    Model(#[from] llama::Error),
    /// A path that is no image encoder.
    #[error("{path}: no image encoder here: {reason}")]
    NotAnEncoder {
        /// What was given.
        path: PathBuf,
        /// What is missing or not known.
        reason: String,
    },
    /// A size or setting of the encoder that makes no sense.
    #[error("{path}: {field} is {found}, expected {expected}")]
    Config {
        /// The file that says so.
        path: PathBuf,
        /// Name of the setting.
        field: String,
        /// What the file has.
        found: String,
        /// What would do.
        expected: String,
    },
    /// The tensors do not match what the config asks for.
    #[error("{path}: the weights do not fit the config\n{report}")]
    Weights {
        /// The encoder.
        path: PathBuf,
        /// Everything that is missing, unexpected or of another shape.
        report: Box<checkpoint::LoadReport>,
    },
    /// A picture that could not be read.
    #[error("{path}: cannot read the picture: {reason}")]
    UnreadableImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture larger than is allowed.
    #[error(
        "{path}: the picture has {width} x {height} pixels, more than the {max_side} that are allowed a side"
    )]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// Its columns.
        width: u32,
        /// Its rows.
        height: u32,
        /// The limit of both.
        max_side: u32,
    },
    /// Features that the encoder cannot give.
    #[error("features: {found}, expected {expected}")]
    Reading {
        /// What was asked for.
        found: String,
        /// What would do.
        expected: String,
    },
    /// Another encoder than the one that an adapter learned with.
    #[error("this is not the image encoder that the adapter learned with, which was `{name}`")]
    EncoderMismatch {
        /// What that one was called.
        name: String,
    },
    /// A picture size that the encoder cannot take.
    #[error(
        "pictures of {asked} pixels a side do not fit patches of {patch}: take a multiple of it, such as {}",
        (.asked / .patch).max(1) * .patch
    )]
    ImageSize {
        /// Pixels a side.
        asked: usize,
        /// Pixels of a patch a side.
        patch: usize,
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
                "give a folder with config.json and model.safetensors or pytorch_model.bin of a CLIP or DINOv2 model, or a \
                 file in OpenAI's layout"
                    .into()
            }
            Self::Weights { .. } => {
                "config.json and the weights may belong to different encoders".into()
            }
            Self::UnreadableImage { .. } => "JPEG, PNG and WebP files are read".into(),
            Self::ImageTooLarge { .. } => "make it smaller".into(),
            Self::EncoderMismatch { .. } => Advice::GiveEncoder,
            Self::Config { .. } | Self::Reading { .. } | Self::ImageSize { .. } => return None,
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
