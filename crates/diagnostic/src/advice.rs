//! What to do about an error, in the libraries' terms.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// What to do about an error.
///
/// Whatever a program may have its own words for is a variant; [`Display`](fmt::Display) has neutral ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Give something that is a model.
    GiveModel,
    /// Give the base model too, since the adapter's file alone does not say enough.
    GiveBaseModel,
    /// Give this as the adapter, and its base as the model.
    UseAsAdapter,
    /// Give this as the model, and an adapter in its place.
    UseAsModel,
    /// Give the base model that the adapter was made for, or use this one unchecked.
    UseMatchingBase,
    /// Give the image encoder that the adapter learned with.
    GiveEncoder,
    /// Let the conversion lose what the format cannot hold.
    AllowLossyConversion,
    /// Adapt fewer layers.
    FewerLayers,
    /// Keep the base in a wider precision, if its files are not damaged.
    WiderPrecision,
    /// Choose one of the precisions that every device has.
    OtherPrecision,
    /// Do with less memory: smaller batches, shorter texts, fewer bits.
    ReduceMemory,
    /// Look at the data, and let its rows be longer.
    CheckSequenceLength,
    /// Train with a lower rate, or limit the gradient.
    LowerLearningRate,
    /// Choose a new or empty folder for the run.
    OtherOutput,
    /// Wait for the other run or stop it, or choose another folder.
    WaitOrOtherOutput,
    /// Choose a new or empty folder for the run, or resume the one that is there.
    OtherOutputOrResume,
    /// Start the run anew instead of resuming it.
    StartNewRun,
    /// Resume with the settings of before, or start a new run from what this one has learned.
    ResumeWithSameSettings {
        /// Folder of the run, if it has an adapter already.
        adapter_folder: Option<PathBuf>,
    },
    /// Build the program with a feature.
    Feature(&'static str),
    /// A sentence that is the same for everybody.
    Text(Cow<'static, str>),
}

impl From<&'static str> for Advice {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Advice {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl Advice {
    /// About a file that could not be written, through which nothing was overwritten.
    pub fn for_write_error(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        let text = match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => {
                "free some space, or write to another disk; nothing was overwritten"
            }
            Kind::FileTooLarge => "write to a disk that takes files of this size",
            Kind::PermissionDenied => {
                "check the rights of the folder, or write to another; nothing was overwritten"
            }
            Kind::ReadOnlyFilesystem => "this disk cannot be written to: choose another",
            Kind::AlreadyExists | Kind::NotADirectory => {
                "a file is where a folder should be: choose another path"
            }
            Kind::IsADirectory | Kind::DirectoryNotEmpty => {
                "a folder is where the file should be: choose another path"
            }
            Kind::NotFound => "make the folder first, or choose one that is there",
            Kind::InvalidFilename => "choose another name: this disk does not take it",
            _ => return None,
        };
        Some(text.into())
    }

    /// About a file that could not be read.
    pub fn for_read_error(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        let text = match error.kind() {
            Kind::PermissionDenied => "check the rights of the file",
            Kind::IsADirectory => "a folder is where the file should be",
            Kind::NotADirectory => "a file is where a folder should be",
            _ => return None,
        };
        Some(text.into())
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GiveModel => {
                "give a folder with config.json and *.safetensors, or with params.json and \
                 consolidated.*.pth, or a .gguf file"
            }
            Self::GiveBaseModel => "give the base model too",
            Self::UseAsAdapter => {
                "give the base model as the model, and this as the adapter that goes with it"
            }
            Self::UseAsModel => "give this as the model, and the folder or file of an adapter here",
            Self::UseMatchingBase => {
                "give the base model it was trained on, or load it unchecked if only sizes matter"
            }
            Self::GiveEncoder => "give that image encoder",
            Self::AllowLossyConversion => "allow losses, to convert all the same and be told what was lost",
            Self::FewerLayers => "ask for fewer adapted layers",
            Self::WiderPrecision => {
                "the adapter or the weights may be damaged, or the base's precision too narrow for \
                 them: try f32"
            }
            Self::OtherPrecision => "every device has f32, q8 and q4",
            Self::ReduceMemory => {
                "it may have run out of memory: try a smaller batch, shorter texts or a precision of \
                 fewer bits"
            }
            Self::CheckSequenceLength => "check the data, and the length that rows may have",
            Self::LowerLearningRate => {
                "the last checkpoint is kept; try a lower learning rate, or a limit for the \
                 gradient's norm"
            }
            Self::OtherOutput => "choose a new or empty folder",
            Self::WaitOrOtherOutput => "wait for it or stop it, or choose another folder",
            Self::OtherOutputOrResume => {
                "choose a new or empty folder, or resume the run that stopped there"
            }
            Self::StartNewRun => "start the run anew, in a new or empty folder",
            Self::ResumeWithSameSettings { adapter_folder: Some(folder) } => {
                return write!(
                    f,
                    "resume with the settings of before; to go on with others, start a new run from \
                     the adapter in {}",
                    folder.display()
                );
            }
            Self::ResumeWithSameSettings { adapter_folder: None } => {
                "resume with the settings of before, or start anew in another folder"
            }
            Self::Feature(name) => return write!(f, "build with the feature `{name}`"),
            Self::Text(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_decides_what_to_do_about_a_file() {
        let about =
            |kind: io::ErrorKind| Advice::for_write_error(&kind.into()).unwrap().to_string();
        assert!(about(io::ErrorKind::StorageFull).contains("free some space"));
        assert!(about(io::ErrorKind::AlreadyExists).contains("a file is where a folder"));
        assert!(about(io::ErrorKind::PermissionDenied).contains("rights"));
        assert_eq!(Advice::for_write_error(&io::ErrorKind::Interrupted.into()), None);
    }
}
