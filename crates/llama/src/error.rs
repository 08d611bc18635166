//! What can go wrong with a model's files, its tokenizer and its use.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files, users or the network can cause.
///
/// The text says what, where, expected and found; [`Diagnostic::advice`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A path that is no model.
    #[error("{path}: no model here: {reason}")]
    NotAModel {
        /// What was given.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
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
    /// A file that breaks its format.
    #[error("{path}: not a valid {format} file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Which format.
        format: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// What lies in the place of a file that was never fetched.
    #[error("{path}: this is {found}")]
    StandIn {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: crate::files::StandIn,
    },
    /// A tensor of numbers that are valid in its file, and not read here.
    #[error("{path}: tensor {tensor} holds {found}, expected {expected}")]
    TensorType {
        /// The file.
        path: PathBuf,
        /// Its name there.
        tensor: String,
        /// What its numbers are.
        found: String,
        /// What is read.
        expected: String,
    },
    /// Weights in a form that another program made of them to save memory.
    #[error("{path}: the weights are quantised by {method}, which is not read here")]
    Quantised {
        /// The model.
        path: PathBuf,
        /// What the method is called.
        method: String,
    },
    /// An adapter where its base model was expected.
    #[error("{path}: this is an adapter, not a model{}", made_for(.base.as_deref()))]
    AdapterAsModel {
        /// What was given.
        path: PathBuf,
        /// The model that it says it was made for.
        base: Option<String>,
    },
    /// A value that a PyTorch file cannot hold so that it is read without running it.
    #[error(
        "{what} cannot be written into a PyTorch file, which holds tensors, numbers, texts, lists \
         and dictionaries"
    )]
    UnsupportedPickleValue {
        /// What it is.
        what: String,
    },
    /// The tensors do not match what the config asks for.
    #[error("{path}: the weights do not fit the config\n{report}")]
    Weights {
        /// The model.
        path: PathBuf,
        /// Everything that is missing, unexpected or of another shape.
        report: Box<crate::weights::LoadReport>,
    },
    /// The tokenizer could not be built or failed on a text.
    #[error("{path}: tokenizer: {reason}")]
    Tokenizer {
        /// Where it came from.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The chat template could not be rendered.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// What the template engine said.
        reason: String,
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

/// The end of a sentence about an adapter.
fn made_for(base: Option<&str>) -> String {
    base.map_or(String::new(), |base| format!(" (it was made for `{}`)", base.escape_debug()))
}

impl Error {
    pub(crate) fn config(
        field: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config { field: field.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn tensor_type(
        path: &Path,
        tensor: &str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::TensorType {
            path: path.into(),
            tensor: tensor.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    pub(crate) fn json(path: &Path, error: &serde_json::Error) -> Self {
        Self::Format { path: path.into(), format: "JSON", reason: error.to_string() }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::NotAModel { .. } => Advice::GiveModel,
            Self::Read { source, .. } => return Advice::for_read_error(source),
            Self::Write { source, .. } => return Advice::for_write_error(source),
            Self::Format { .. } => {
                "the file may be cut short or damaged: fetch or copy it again".into()
            }
            Self::StandIn { found, .. } => found.hint().into(),
            Self::TensorType { .. } | Self::Quantised { .. } => {
                "the file is whole, but of another kind: take the model in f32, f16 or bf16 that it was \
                 made from, or a GGUF of it; either can be kept in 8 or 4 bits once it is loaded"
                    .into()
            }
            Self::AdapterAsModel { .. } => Advice::UseAsAdapter,
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
            | Self::Tokenizer { .. }
            | Self::ChatTemplate { .. }
            | Self::EmptyPrompt { .. }
            | Self::TokenId { .. }
            | Self::UnsupportedPickleValue { .. }
            | Self::Sampling { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Sampling { .. })
    }
}
