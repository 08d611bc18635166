//! What can go wrong with a model's files, its tokenizer and its use.

use std::path::PathBuf;

use checkpoint::LoadReport;
use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files, users or the network can cause.
///
/// The text says what, where, expected and found; [`Diagnostic::advice`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written, or violates its format.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A tokenizer or a chat template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// A size or setting of the model that makes no sense.
    #[error("model config: {field} is {found}, expected {expected}")]
    Config {
        /// Name of the setting.
        field: String,
        /// What the file has.
        found: String,
        /// What would do.
        expected: String,
    },
    /// An architecture this crate does not know.
    #[error("{path}: architecture `{found}` is not supported (known: {known})")]
    Architecture {
        /// The file that names it.
        path: PathBuf,
        /// Its name.
        found: String,
        /// The ones that work.
        known: String,
    },
    /// The tensors do not match what the config asks for.
    #[error("{path}: the weights do not fit the config\n{report}")]
    Weights {
        /// The model.
        path: PathBuf,
        /// Everything that is missing, unexpected or of another shape.
        report: Box<LoadReport>,
    },
    /// More tokens than the model or the decoding state has room for.
    #[error("{asked} tokens do not fit: {what} has room for {capacity}")]
    SequenceTooLong {
        /// Tokens asked for.
        asked: usize,
        /// What is too small.
        what: &'static str,
        /// Its size.
        capacity: usize,
    },
    /// A prompt without a token, for a model that has no token to start a text with.
    #[error("prompt {row} is empty, and the model has no token that starts a text")]
    EmptyPrompt {
        /// Its place in the batch, from 0.
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
    /// A sampling setting out of range.
    #[error("{name} is {found}, expected {expected}")]
    Sampling {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        expected: &'static str,
    },
    /// A model whose arithmetic breaks down.
    #[error("the model gave {found} as the score of a token")]
    NonFiniteLogits {
        /// NaN or infinite.
        found: f32,
    },
    /// A device without arithmetic in the base's precision.
    #[error("this device does not compute in {precision}")]
    Precision {
        /// What was asked for.
        precision: crate::precision::Precision,
    },
    /// A device that gave no numbers.
    #[error("the device could not compute: {reason}")]
    Device {
        /// What it said.
        reason: String,
    },
    /// The Hugging Face Hub could not deliver a file.
    #[error("{repo}: cannot fetch {file} from the Hugging Face Hub: {reason}")]
    Hub {
        /// Repository id.
        repo: String,
        /// File in it.
        file: String,
        /// What the client said.
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
            | Self::Sampling { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Sampling { .. })
    }
}
