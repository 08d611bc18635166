//! Errors of loading and running a model.

use std::path::PathBuf;

use checkpoint::LoadReport;
use diagnostic::{Advice, Diagnostic};

/// [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error caused by files, settings, the device or the network.
///
/// The message names the object, the expected and the found value; [`Diagnostic::advice`] suggests a fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written, or violates its format.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// An error of a tokenizer or chat template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// An invalid or unsupported setting of a model's config.
    #[error("model config: {field} is {found}, expected {expected}")]
    Config {
        /// Name of the setting.
        field: String,
        /// Its value.
        found: String,
        /// Valid values.
        expected: String,
    },
    /// An unsupported architecture.
    #[error("{path}: architecture `{found}` is not supported (known: {known})")]
    Architecture {
        /// The config file.
        path: PathBuf,
        /// Its name.
        found: String,
        /// Supported architectures.
        known: String,
    },
    /// The tensors do not match the config.
    #[error("{path}: the weights do not fit the config\n{report}")]
    Weights {
        /// The model.
        path: PathBuf,
        /// All mismatches.
        report: Box<LoadReport>,
    },
    /// More tokens than the model's context or the KV cache holds.
    #[error("{asked} tokens do not fit: {what} has room for {capacity}")]
    SequenceTooLong {
        /// Requested tokens.
        asked: usize,
        /// What limits the length.
        what: &'static str,
        /// Its limit.
        capacity: usize,
    },
    /// An empty prompt, for a model without a BOS token.
    #[error("prompt {row} is empty, and the model has no BOS token to start from")]
    EmptyPrompt {
        /// Its index in the batch.
        row: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    TokenId {
        /// The id.
        id: i64,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling setting that is out of range.
    #[error("{name} is {found}, expected {expected}")]
    SamplingSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// Valid range.
        expected: &'static str,
    },
    /// A logit that is NaN or positive infinity.
    #[error("a logit of the model is {found}")]
    NonFiniteLogits {
        /// The logit.
        found: f32,
    },
    /// A precision that the device does not support.
    #[error("this device does not compute in {precision}")]
    Precision {
        /// The requested precision.
        precision: crate::precision::Precision,
    },
    /// A failure of the device.
    #[error("the device failed: {reason}")]
    Device {
        /// Reason given by the backend.
        reason: String,
    },
    /// A file could not be downloaded from the Hugging Face Hub.
    #[error("{repo}: cannot fetch {file} from the Hugging Face Hub: {reason}")]
    Hub {
        /// Repository id.
        repo: String,
        /// File in the repository.
        file: String,
        /// Reason given by the client.
        reason: String,
    },
}

impl Error {
    pub(crate) fn config(
        field: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config { field: field.into(), found: found.into(), expected: expected.into() }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::Checkpoint(error) => return error.advice(),
            Self::Text(error) => return error.advice(),
            Self::Weights { .. } => {
                "config.json and the weights may belong to different models".into()
            }
            Self::NonFiniteLogits { .. } => Advice::WiderPrecision,
            Self::Precision { .. } => Advice::OtherPrecision,
            Self::Device { .. } => Advice::ReduceMemory,
            Self::SequenceTooLong { .. } => "shorten the prompt or ask for fewer new tokens".into(),
            Self::Hub { .. } => {
                "check the repository id and the network; HF_TOKEN opens private repositories"
                    .into()
            }
            Self::Config { .. }
            | Self::Architecture { .. }
            | Self::EmptyPrompt { .. }
            | Self::TokenId { .. }
            | Self::SamplingSetting { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::SamplingSetting { .. })
    }
}
