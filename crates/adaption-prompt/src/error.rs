//! What can go wrong with an adapter and its files.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files or users can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More adapted layers than the model has.
    #[error("the adapter wants {asked} layers, the model has {present}")]
    TooManyLayers {
        /// Layers of the adapter.
        asked: usize,
        /// Layers of the model.
        present: usize,
    },
    /// A size or number of the adapter that makes no sense.
    #[error("adapter config: {field} is {found}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A folder without an adapter in it.
    #[error("{path}: no adapter here: {reason}")]
    NotAnAdapter {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A config that is not valid JSON, or of another method.
    #[error("{path}: {reason}")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tensors that do not fit the adapter's config or the model.
    #[error("{path}: the adapter does not fit{}", .problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Everything that is missing, unexpected, of another shape or not finite.
        problems: Vec<String>,
    },
    /// A file could not be read or written, or breaks its format.
    #[error(transparent)]
    File(#[from] llama::Error),
}

impl Error {
    /// What the user may try, where there is an obvious mend.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooManyLayers { .. } => Some("ask for fewer with --adapter-layers"),
            Self::NotAnAdapter { .. } => {
                Some("give the folder that holds adapter_config.json and adapter_model.safetensors")
            }
            Self::ConfigFile { .. } => {
                Some("give the folder of an ADAPTION_PROMPT adapter, as PEFT or `train` writes it")
            }
            Self::Tensors { .. } => Some("the adapter was probably made for another model"),
            Self::Config { .. } => None,
            Self::File(error) => error.hint(),
        }
    }
}
