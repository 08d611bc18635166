//! Errors of the engine: of its start, of a request before and after it is accepted, of adapters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diagnostic::{Advice, Diagnostic};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting that is out of range.
    #[error("{setting} is {found}, expected {expected}")]
    Config {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// Valid values.
        expected: &'static str,
    },
    /// A cache that cannot hold a single block of tokens.
    #[error("a cache of {found} bytes is too small, expected at least {least}")]
    CacheTooSmall {
        /// The requested bytes.
        found: usize,
        /// Bytes of the smallest useful cache.
        least: usize,
    },
    /// An adapter that cannot be loaded.
    #[error("adapter `{name}`: {source}")]
    Adapter {
        /// Its name.
        name: String,
        /// Why.
        source: Box<LoadError>,
    },
    /// An error of the model or its device.
    #[error(transparent)]
    Model(#[from] llama::Error),
    /// The operating system gave no thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread pool could not be started.
    #[error("cannot start the engine's thread pool: {reason}")]
    ThreadPool {
        /// The reason.
        reason: String,
    },
}

impl Diagnostic for StartError {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::CacheTooSmall { .. } => Some("give the cache more bytes".into()),
            Self::Adapter { source, .. } => source.advice(),
            Self::Model(error) => error.advice(),
            Self::Thread(_) | Self::ThreadPool { .. } => {
                Some("check the limits of processes and memory".into())
            }
            Self::Config { .. } => None,
        }
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } | Self::CacheTooSmall { .. } => true,
            Self::Adapter { source, .. } => source.is_usage(),
            Self::Model(error) => error.is_usage(),
            Self::Thread(_) | Self::ThreadPool { .. } => false,
        }
    }
}

/// Why a request was not accepted. Nothing was computed for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many requests run and wait as the engine allows.
    #[error("the server has as many requests as it accepts")]
    QueueFull {
        /// A time after which another try is likely to be accepted, 1 to 60 seconds.
        retry_after: Duration,
    },
    /// The engine accepts no more requests, because it is being stopped.
    #[error("the server is shutting down")]
    Draining,
    /// The engine has failed repeatedly, or its thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The prompt does not leave room for a token in the model's context.
    #[error(
        "the prompt of {asked} tokens leaves no room for an answer: the model's context has {context} tokens"
    )]
    TooLong {
        /// Tokens of the prompt.
        asked: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// The prompt does not leave room for a token in the whole cache.
    #[error(
        "the prompt of {asked} tokens leaves no room for an answer: the cache has {capacity} tokens"
    )]
    LargerThanCache {
        /// Tokens of the prompt.
        asked: usize,
        /// Tokens of the cache.
        capacity: usize,
    },
    /// No adapter has this name.
    #[error("no adapter is called `{0}`")]
    UnknownAdapter(String),
    /// An image for the base model, or for an adapter without an image condition; or no image encoder
    /// is there for it.
    #[error("{0} does not see images")]
    NotMultimodal(String),
    /// A setting of the request that is out of range.
    #[error("{field} is {found}, expected {expected}")]
    Request {
        /// The field of the request.
        field: &'static str,
        /// Its value.
        found: String,
        /// Valid values.
        expected: String,
    },
    /// A prompt or a sampling setting that the model refuses.
    #[error(transparent)]
    Invalid(#[from] llama::Error),
}

impl Diagnostic for SubmitError {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::QueueFull { .. } => "try again later".into(),
            Self::TooLong { .. } => "shorten the prompt".into(),
            Self::LargerThanCache { .. } => {
                "shorten the prompt, or give the cache more bytes".into()
            }
            Self::NotMultimodal(_) => "choose an adapter that was trained with images".into(),
            Self::Invalid(error) => return error.advice(),
            Self::Draining | Self::Stopped | Self::UnknownAdapter(_) | Self::Request { .. } => {
                return None;
            }
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        !matches!(self, Self::QueueFull { .. } | Self::Draining | Self::Stopped)
    }
}

/// Why an accepted request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request's adapter could not be loaded or was removed.
    #[error("adapter `{name}`: {source}")]
    Adapter {
        /// Its name, or names joined by `+`.
        name: String,
        /// Why.
        source: Arc<LoadError>,
    },
    /// An image for an adapter without an image condition.
    #[error("{0} does not see images")]
    NotMultimodal(String),
    /// The request ran longer than [`EngineConfig::request_time`](crate::EngineConfig::request_time).
    #[error("the request took longer than {} seconds", .limit.as_secs_f32())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The engine was stopped before the request was complete.
    #[error("the server was shut down before the answer was complete")]
    Aborted,
    /// The model's result cannot be used, such as a logit that is not a number.
    #[error(transparent)]
    Model(Arc<llama::Error>),
    /// The device or the engine failed. Requests after this one are not affected.
    #[error("the engine failed: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl Diagnostic for RequestError {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Adapter { source, .. } => source.advice(),
            Self::NotMultimodal(_) => Some("choose an adapter that was trained with images".into()),
            Self::Model(error) => error.advice(),
            Self::TimedOut { .. } => Some("ask for fewer new tokens".into()),
            Self::Aborted | Self::Internal { .. } => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::NotMultimodal(_))
    }
}

/// Why an adapter could not be added, loaded or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A name with other characters, or too long.
    #[error("`{}` is not a name of an adapter, expected 1 to 64 of A-Z a-z 0-9 . _ -", .0.escape_debug())]
    Name(String),
    /// Another adapter has this name.
    #[error("an adapter called `{0}` exists already")]
    NameTaken(String),
    /// No adapter has this name.
    #[error("no adapter is called `{0}`")]
    Unknown(String),
    /// The adapter's files cannot be read, or do not fit the model.
    #[error(transparent)]
    Files(#[from] adaption_prompt::Error),
    /// The adapter's folder changed while it was read, or is gone.
    #[error("{path}: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The adapter alone is larger than the memory for adapters.
    #[error("the adapter needs {bytes} bytes, and adapters have {limit}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The adapter's image encoder is not there, or does not fit.
    #[error("the image encoder: {reason}")]
    Encoder {
        /// The reason.
        reason: String,
    },
    /// The loader panicked: a defect of the program, or of the files.
    #[error("loading failed: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

impl Diagnostic for LoadError {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Files(error) => error.advice(),
            Self::NameTaken(_) => Some("give it another name, or remove that one first".into()),
            Self::TooLarge { .. } => Some("allow more memory for adapters".into()),
            Self::Encoder { .. } => Some(Advice::GiveEncoder),
            Self::Folder { .. } => Some("give the folder of an adapter".into()),
            Self::Name(_) | Self::Unknown(_) | Self::Failed { .. } | Self::Stopped => None,
        }
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Name(_) | Self::NameTaken(_) | Self::Unknown(_) => true,
            Self::Files(error) => error.is_usage(),
            _ => false,
        }
    }
}
