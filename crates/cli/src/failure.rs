//! any error ─► `error: ...`, its causes, `hint: ...` on stderr ─► exit code

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use diagnostic::Diagnostic;

use crate::hints::hint_text;
use crate::output::{self, OutputError};

/// Result of a command.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// The error of a command: the error of any crate, with context.
///
/// Only errors with a [`Diagnostic`] convert to it, so every error has its hint.
#[derive(Debug)]
pub struct Failure {
    /// What was being done, outermost first.
    contexts: Vec<String>,
    error: Box<dyn Diagnostic + Send + Sync>,
    /// Whether the options are at fault, whatever `error` says.
    usage: bool,
}

impl<E: Diagnostic + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { contexts: Vec::new(), usage: error.is_usage(), error: Box::new(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.contexts.first() {
            Some(context) => f.write_str(context),
            None => self.error.fmt(f),
        }
    }
}

/// Adds context to an error.
pub trait ErrorContext<T> {
    /// `context` comes first in the message; the error follows as its cause.
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Failure>> ErrorContext<T> for Result<T, E> {
    fn with_context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::with_context(context(), error))
    }
}

impl Failure {
    /// Puts a context in front of an error and of the contexts that it has.
    pub fn with_context(context: String, error: impl Into<Self>) -> Self {
        let mut failure = error.into();
        failure.contexts.insert(0, context);
        failure
    }

    /// Marks an error as wrong usage: settings that a library rejects come from options.
    pub fn as_usage(error: impl Into<Self>) -> Self {
        Self { usage: true, ..error.into() }
    }

    /// The error without its contexts, for a library that tells its user.
    #[cfg(feature = "serve")]
    pub fn into_diagnostic(self) -> Box<dyn Diagnostic + Send + Sync> {
        self.error
    }

    /// Whether stdout is closed or full; further work is useless.
    pub fn is_output_error(&self) -> bool {
        matches!(self.cause().downcast_ref(), Some(OutputError::Closed | OutputError::Write(_)))
    }

    /// Prints the error on stderr and returns the exit code.
    pub fn report(&self) -> ExitCode {
        if matches!(self.cause().downcast_ref(), Some(OutputError::Closed)) {
            return ExitCode::SUCCESS;
        }
        output::note(self.message().trim_end());
        ExitCode::from(self.exit_code())
    }

    /// The exit code of an error that is reported.
    pub fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }

    /// The whole message: the contexts, the error, its causes and the hint.
    fn message(&self) -> String {
        let causes = std::iter::successors(Some(self.cause()), |&error| error.source());
        let messages = self.contexts.iter().cloned().chain(causes.map(ToString::to_string));
        let mut text = String::from("error: ");
        let mut last_message = String::new();
        for message in messages {
            // Many errors contain the message of their cause.
            if last_message.contains(&message) {
                continue;
            }
            if !last_message.is_empty() {
                text += "  caused by: ";
            }
            text += &message;
            text.push('\n');
            last_message = message;
        }
        if let Some(advice) = self.error.advice() {
            text.extend(["hint: ", &hint_text(&advice), "\n"]);
        }
        text
    }

    fn cause(&self) -> &(dyn StdError + 'static) {
        &*self.error
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::error::Error;

    fn message(error: impl Into<Failure>) -> String {
        error.into().message()
    }

    #[test]
    fn causes_are_printed_once_and_the_hint_last() {
        let full = io::Error::new(io::ErrorKind::StorageFull, "disk full");
        let failed = Err::<(), _>(Error::file("a/b", "write")(full));
        assert_eq!(
            failed.with_context(|| "no luck".into()).unwrap_err().message(),
            "error: no luck\n  caused by: a/b: cannot write: disk full\nhint: free some space, or \
             set LLAMA_ADAPTER_CACHE to a folder on another disk\n"
        );
    }

    #[test]
    fn every_context_is_printed_the_outermost_first() {
        let failed = Err::<(), _>(Error::NoCache).with_context(|| "inner".into());
        let failure = failed.with_context(|| "outer".into()).unwrap_err();
        assert_eq!(failure.to_string(), "outer");
        assert!(failure.message().starts_with(
            "error: outer\n  caused by: inner\n  caused by: no cache folder for fetched models\n"
        ));
    }

    #[test]
    fn advice_passes_through_wrapping_errors() {
        let too_long =
            || llama::Error::SequenceTooLong { asked: 9, what: "the model's context", capacity: 8 };
        let hint = format!("hint: {}\n", too_long().advice().unwrap());
        assert!(message(too_long()).ends_with(&hint));
        assert!(message(vision::Error::from(too_long())).ends_with(&hint));
        assert!(message(adaption_prompt::Error::from(too_long())).ends_with(&hint));
        assert!(message(train::Error::from(too_long())).ends_with(&hint));

        let large =
            || vision::Error::ImageTooLarge { path: "a".into(), width: 9, height: 1, max_side: 8 };
        let hint = format!("hint: {}\n", large().advice().unwrap());
        assert!(message(large()).ends_with(&hint));
        assert!(message(train::Error::from(large())).ends_with(&hint));
        let encoder = vision::Error::EncoderMismatch { name: "x".into() };
        assert!(message(encoder).ends_with("hint: pass that encoder with --image-encoder\n"));

        let layers = || adaption_prompt::Error::TooManyLayers { requested: 9, available: 8 };
        assert!(message(layers()).ends_with("hint: reduce --adapter-layers\n"));
        assert!(message(train::Error::from(layers())).contains("--adapter-layers"));
        let taken =
            train::Error::OutputNotEmpty { path: "a".into(), contents: "holds another run" };
        assert!(message(taken).contains("hint: choose a new or empty --output"));
        assert!(message(device::parse("tpu").unwrap_err()).contains("hint: devices: flex"));
        assert!(!message(text::Error::ChatTemplate { reason: "x".into() }).contains("hint:"));
    }

    #[test]
    fn an_invalid_option_is_a_usage_error_and_an_invalid_file_is_not() {
        let usage = |error: Failure| error.usage;
        assert!(usage(Error::usage("no").into()));
        let unknown = device::parse("tpu").with_context(|| "x".into()).unwrap_err();
        assert!(usage(unknown));
        let sampling =
            || llama::Error::SamplingSetting { name: "top_p", found: "2".into(), expected: "less" };
        assert!(usage(train::Error::from(sampling()).into()));
        assert!(!usage(Error::NoCache.into()));
        assert!(usage(Failure::as_usage(Error::NoCache)));
    }
}
