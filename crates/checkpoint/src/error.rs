//! Errors of reading and writing files.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic, Placeholder};

/// [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of reading or writing a file.
///
/// The message states the file, the reason, what was expected and what was found;
/// [`Diagnostic::advice`] is the hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A path without a model's checkpoint.
    #[error("{path}: no model here: {reason}")]
    NotAModel {
        /// The given path.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The path of an adapter where a base model was expected.
    #[error("{path}: this is an adapter, not a model{}", base_model_suffix(.base.as_deref()))]
    AdapterAsModel {
        /// The given path.
        path: PathBuf,
        /// The base model that the adapter's config names.
        base: Option<String>,
    },
    /// A file that violates its format.
    #[error("{path}: not a valid {format} file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// A placeholder instead of a file that was never downloaded, such as a Git LFS pointer.
    #[error("{path}: this is {found}")]
    Placeholder {
        /// The file.
        path: PathBuf,
        /// Its kind.
        found: Placeholder,
    },
    /// A tensor whose element type is valid in its format but not supported here.
    #[error("{path}: tensor {tensor} holds {found}, expected {expected}")]
    TensorType {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its element type.
        found: String,
        /// The supported types.
        expected: String,
    },
    /// Weights in another program's quantization format.
    #[error("{path}: the weights are quantized by {method}, which is not supported")]
    Quantized {
        /// The model.
        path: PathBuf,
        /// Name of the method.
        method: String,
    },
    /// A value that has no representation in a PyTorch file that is read without running code.
    #[error(
        "{what} cannot be written into a PyTorch file, which holds tensors, numbers, strings, lists \
         and dictionaries"
    )]
    UnsupportedPickleValue {
        /// The value.
        what: String,
    },
}

/// Suffix of the message about an adapter.
fn base_model_suffix(base: Option<&str>) -> String {
    base.map_or(String::new(), |base| format!(" (it was made for `{}`)", base.escape_debug()))
}

/// Constructors for the workspace's other file readers.
#[doc(hidden)]
impl Error {
    pub fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    pub fn not_a_model(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::NotAModel { path: path.into(), reason: reason.into() }
    }

    pub fn format(
        path: impl Into<PathBuf>,
        format: &'static str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Format { path: path.into(), format, reason: reason.into() }
    }

    pub fn json(path: &Path, error: &serde_json::Error) -> Self {
        Self::format(path, "JSON", error.to_string())
    }

    pub fn tensor_type(
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
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::Read { source, .. } => return Advice::for_read_error(source),
            Self::Write { source, .. } => return Advice::for_write_error(source),
            Self::NotAModel { .. } => Advice::GiveModel,
            Self::AdapterAsModel { .. } => Advice::UseAsAdapter,
            Self::Format { .. } => {
                "the file may be truncated or damaged: download or copy it again".into()
            }
            Self::Placeholder { found, .. } => found.hint().into(),
            Self::TensorType { .. } | Self::Quantized { .. } => {
                "the file is whole, but of another kind: take the model in f32, f16 or bf16 that it was \
                 made from, or a GGUF of it; either can be kept in 8 or 4 bits once it is loaded"
                    .into()
            }
            Self::UnsupportedPickleValue { .. } => return None,
        };
        Some(advice)
    }
}
