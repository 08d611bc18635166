//! Errors of tokenizers and chat templates.

use std::path::PathBuf;

use diagnostic::{Advice, Diagnostic};

/// [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a tokenizer or a chat template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written, or violates its format.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The tokenizer could not be built, or failed on a text.
    #[error("{path}: tokenizer: {reason}")]
    Tokenizer {
        /// File or folder of the tokenizer.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The chat template could not be compiled or rendered.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// The template engine's message.
        reason: String,
    },
    /// The chat template does not show which part of a conversation the assistant wrote.
    #[error("chat template: the assistant's turns cannot be told from the rest: {reason}")]
    AssistantTurns {
        /// The reason.
        reason: String,
    },
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Checkpoint(error) => error.advice(),
            Self::AssistantTurns { .. } => Some(
                "put {% generation %} and {% endgeneration %} around what the assistant writes in the \
                 template, or use another template"
                    .into(),
            ),
            Self::Tokenizer { .. } | Self::ChatTemplate { .. } => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Checkpoint(error) if error.is_usage())
    }
}
