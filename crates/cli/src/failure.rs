//! any error ─► `error: ...`, its causes, `hint: ...` on stderr ─► exit code

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use diagnostic::{Advice, Diagnostic};

use crate::error::Error;
use crate::output;

/// Result of a verb.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// What ends a verb: the error of any crate, and what was being done.
///
/// It is made of errors with a [`Diagnostic`] alone, so no crate's advice can be forgotten on the way.
#[derive(Debug)]
pub struct Failure {
    /// What was being done, where the error does not say it.
    doing: Option<String>,
    error: Box<dyn Diagnostic + Send + Sync>,
    /// Whether it is about what was typed, whatever the error says itself.
    usage: bool,
}

impl<E: Diagnostic + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { doing: None, usage: error.is_usage(), error: Box::new(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.doing {
            Some(doing) => f.write_str(doing),
            None => self.error.fmt(f),
        }
    }
}

/// Says what was being done when an error came.
pub trait Doing<T> {
    /// `what` comes first in the message, the error behind it.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Failure>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::with_context(what(), error))
    }
}

impl Failure {
    /// The same, with what was being done in front.
    pub fn with_context(what: String, error: impl Into<Self>) -> Self {
        Self { doing: Some(what), ..error.into() }
    }

    /// The same, about what was typed: settings that a library refuses come from options.
    pub fn as_usage(error: impl Into<Self>) -> Self {
        Self { usage: true, ..error.into() }
    }

    /// Whether nothing can be written any more: no other work is worth a try.
    pub fn is_output_error(&self) -> bool {
        matches!(self.cause().downcast_ref(), Some(Error::OutputClosed | Error::Output(_)))
    }

    /// Tells it on stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if matches!(self.cause().downcast_ref(), Some(Error::OutputClosed)) {
            return ExitCode::SUCCESS;
        }
        output::note(self.tell().trim_end());
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }

    /// The text: what happened, why, and what to try.
    fn tell(&self) -> String {
        let causes = std::iter::successors(Some(self.cause()), |&error| error.source());
        let messages = self.doing.iter().cloned().chain(causes.map(ToString::to_string));
        let mut text = String::from("error: ");
        let mut told = String::new();
        for message in messages {
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
        if let Some(advice) = self.error.advice() {
            text.extend(["hint: ", &words(&advice), "\n"]);
        }
        text
    }

    fn cause(&self) -> &(dyn StdError + 'static) {
        &*self.error
    }
}

/// Advice in the words of the command line: what a library cannot know are the options' names.
pub fn words(advice: &Advice) -> String {
    let text = match advice {
        Advice::GiveModel => {
            "give a folder with config.json and *.safetensors, or with params.json and \
             consolidated.*.pth, a .gguf file, or the name of a fetched model (`llama-adapter fetch`)"
        }
        Advice::GiveBaseModel => "give the base model with --model",
        Advice::UseAsAdapter => "give this with --adapter, and its base model with --model",
        Advice::UseAsModel => {
            "give this with --model, and the folder or file of an adapter with --adapter"
        }
        Advice::UseMatchingBase => {
            "give the base model it was trained on; --force uses it all the same"
        }
        Advice::GiveEncoder => "give that one with --image-encoder",
        Advice::AllowLossyConversion => "--lossy converts all the same and says what was lost",
        Advice::FewerLayers => "ask for fewer with --adapter-layers",
        Advice::WiderPrecision => {
            "the adapter or the weights may be damaged, or --precision too narrow for them: try f32"
        }
        Advice::OtherPrecision => {
            "`llama-adapter devices` lists what it has; every device has --precision f32, q8 and q4"
        }
        Advice::ReduceMemory => {
            "it may have run out of memory: try a smaller --batch-size, shorter texts, or \
             --precision f16 or q8; `llama-adapter plan` tells what a run takes"
        }
        Advice::CheckSequenceLength => "check the file, and --max-len",
        Advice::LowerLearningRate => {
            "the last checkpoint is kept; try a lower --lr, or a --clip on the gradient's norm"
        }
        Advice::OtherOutput => "choose a new or empty --output",
        Advice::WaitOrOtherOutput => "wait for it or stop it, or choose another --output",
        Advice::OtherOutputOrResume => {
            "choose a new or empty --output; --resume goes on with a run that stopped there"
        }
        Advice::StartNewRun => "start the run anew, without --resume, in a new or empty --output",
        Advice::ResumeWithSameSettings { adapter_folder: Some(folder) } => {
            return format!(
                "resume with the settings of run.json; to go on with others, start a new run from what \
                 this one has learned: --from-adapter {} with another --output",
                folder.display()
            );
        }
        Advice::ResumeWithSameSettings { adapter_folder: None } => {
            "resume with the settings of run.json, or start anew in another --output"
        }
        Advice::Feature(name) => return format!("build with `--features {name}`"),
        other => return other.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn tell(error: impl Into<Failure>) -> String {
        error.into().tell()
    }

    #[test]
    fn a_cause_is_told_once_and_the_hint_comes_last() {
        let full = io::Error::new(io::ErrorKind::StorageFull, "disk full");
        let failed = Err::<(), _>(Error::file("a/b", "write")(full));
        assert_eq!(
            failed.doing(|| "no luck".into()).unwrap_err().tell(),
            "error: no luck\n  because: a/b: cannot write: disk full\nhint: free some space, or \
             name a folder on another disk in LLAMA_ADAPTER_CACHE\n"
        );
    }

    #[test]
    fn every_crate_s_advice_reaches_the_user_through_those_that_call_it() {
        let too_long =
            || llama::Error::SequenceTooLong { asked: 9, what: "the model's context", capacity: 8 };
        let hint = "hint: shorten the prompt or ask for fewer new tokens\n";
        assert!(tell(too_long()).ends_with(hint));
        assert!(tell(vision::Error::from(too_long())).ends_with(hint));
        assert!(tell(adaption_prompt::Error::from(too_long())).ends_with(hint));
        assert!(tell(train::Error::from(too_long())).ends_with(hint));

        let large =
            || vision::Error::ImageTooLarge { path: "a".into(), width: 9, height: 1, max_side: 8 };
        assert!(tell(large()).ends_with("hint: make it smaller\n"));
        assert!(tell(train::Error::from(large())).ends_with("hint: make it smaller\n"));
        let encoder = vision::Error::EncoderMismatch { name: "x".into() };
        assert!(tell(encoder).ends_with("hint: give that one with --image-encoder\n"));

        let layers = || adaption_prompt::Error::TooManyLayers { requested: 9, available: 8 };
        assert!(tell(layers()).ends_with("hint: ask for fewer with --adapter-layers\n"));
        assert!(tell(train::Error::from(layers())).contains("--adapter-layers"));
        let taken =
            train::Error::OutputNotEmpty { path: "a".into(), contents: "holds another run" };
        assert!(tell(taken).contains("hint: choose a new or empty --output"));
        assert!(tell(device::parse("tpu").unwrap_err()).contains("hint: devices: flex"));
        assert!(!tell(text::Error::ChatTemplate { reason: "x".into() }).contains("hint:"));
    }

    #[test]
    fn a_bad_option_is_wrong_usage_and_a_bad_file_is_not() {
        let usage = |error: Failure| error.usage;
        assert!(usage(Error::Usage { message: "no".into(), hint: None }.into()));
        let unknown = device::parse("tpu").doing(|| "x".into()).unwrap_err();
        assert!(usage(unknown));
        let sampling =
            || llama::Error::SamplingSetting { name: "top_p", found: "2".into(), expected: "less" };
        assert!(usage(train::Error::from(sampling()).into()));
        assert!(!usage(Error::NoCache.into()));
        assert!(usage(Failure::as_usage(Error::NoCache)));
    }
}
