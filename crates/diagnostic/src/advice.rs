//! Remedies for errors, without the names of options.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// The remedy for an error.
///
/// Each remedy that a program may phrase with its own options is a variant;
/// [`Display`](fmt::Display) writes a neutral text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Pass a model.
    GiveModel,
    /// Pass the base model too: the adapter's file lacks facts about it.
    GiveBaseModel,
    /// Pass this as the adapter, and its base model as the model.
    UseAsAdapter,
    /// Pass this as the model, and an adapter as the adapter.
    UseAsModel,
    /// Use the base model of the adapter, or load the adapter unchecked.
    UseMatchingBase,
    /// Pass the image encoder that the adapter was trained with.
    GiveEncoder,
    /// Allow a lossy conversion.
    AllowLossyConversion,
    /// Adapt fewer layers.
    FewerLayers,
    /// Load the base model in a wider precision, unless its files are corrupted.
    WiderPrecision,
    /// Use a precision that every device supports.
    OtherPrecision,
    /// Reduce memory: smaller batches, shorter sequences, a lower precision.
    ReduceMemory,
    /// Check the data and the maximum sequence length.
    CheckSequenceLength,
    /// Name the format of the data.
    ForceFormat,
    /// Use a lower learning rate or gradient clipping.
    LowerLearningRate {
        /// A learning rate to try, such as `3e-3`.
        suggested: String,
    },
    /// Use a new or empty output folder.
    OtherOutput,
    /// Wait for the other run or stop it, or use another output folder.
    WaitOrOtherOutput,
    /// Use a new or empty output folder, or resume the run in this one.
    OtherOutputOrResume,
    /// Start a new run.
    StartNewRun,
    /// Resume the run: everything is saved.
    ResumeRun,
    /// Resume with the original settings, or start a new run from the adapter of this one.
    ResumeWithSameSettings {
        /// Folder of the run, if it contains an adapter.
        adapter_folder: Option<PathBuf>,
    },
    /// Build the program with a cargo feature.
    Feature(&'static str),
    /// Any other remedy.
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
    /// The remedy for a failed write of a file. It assumes that nothing was overwritten.
    pub fn for_write_error(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        let text = match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => {
                "free some space, or write to another disk; nothing was overwritten"
            }
            Kind::FileTooLarge => "write to a disk that allows files of this size",
            Kind::PermissionDenied => {
                "check the permissions of the folder, or write to another; nothing was overwritten"
            }
            Kind::ReadOnlyFilesystem => "the file system is read-only: choose another",
            Kind::AlreadyExists | Kind::NotADirectory => {
                "the path contains a file where a folder is expected"
            }
            Kind::IsADirectory | Kind::DirectoryNotEmpty => "the path is a folder, expected a file",
            Kind::NotFound => "create the folder first",
            Kind::InvalidFilename => "this file name is not valid on this disk",
            _ => return None,
        };
        Some(text.into())
    }

    /// The remedy for a failed read of a file.
    pub fn for_read_error(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        let text = match error.kind() {
            Kind::PermissionDenied => "check the permissions of the file",
            Kind::IsADirectory => "the path is a folder, expected a file",
            Kind::NotADirectory => "the path contains a file where a folder is expected",
            _ => return None,
        };
        Some(text.into())
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GiveModel => {
                "pass a folder with config.json and *.safetensors, or with params.json and \
                 consolidated.*.pth, or a .gguf file"
            }
            Self::GiveBaseModel => "pass the base model too",
            Self::UseAsAdapter => "pass this as the adapter, and its base model as the model",
            Self::UseAsModel => "pass this as the model, and an adapter as the adapter",
            Self::UseMatchingBase => {
                "use the base model it was trained on, or load the adapter unchecked"
            }
            Self::GiveEncoder => "pass that image encoder",
            Self::AllowLossyConversion => "allow a lossy conversion",
            Self::FewerLayers => "adapt fewer layers",
            Self::WiderPrecision => {
                "the adapter or the weights may be corrupted, or overflow in the base model's \
                 precision: try f32"
            }
            Self::OtherPrecision => "every device supports f32, q8 and q4",
            Self::ReduceMemory => {
                "probably out of memory: try a smaller batch, shorter sequences or a lower precision"
            }
            Self::CheckSequenceLength => "check the data and the maximum sequence length",
            Self::ForceFormat => "name the format: a plain text has none that can be found",
            Self::LowerLearningRate { suggested } => {
                return write!(
                    f,
                    "the last checkpoint is kept; try the learning rate {suggested}, or a maximum \
                     gradient norm"
                );
            }
            Self::OtherOutput => "choose a new or empty folder",
            Self::WaitOrOtherOutput => "wait for it or stop it, or choose another folder",
            Self::OtherOutputOrResume => {
                "choose a new or empty folder, or resume the interrupted run"
            }
            Self::StartNewRun => "start a new run in a new or empty folder",
            Self::ResumeRun => "everything is saved: resume the run to continue",
            Self::ResumeWithSameSettings { adapter_folder: Some(folder) } => {
                return write!(
                    f,
                    "resume with the original settings; for other settings start a new run from \
                     the adapter in {}",
                    folder.display()
                );
            }
            Self::ResumeWithSameSettings { adapter_folder: None } => {
                "resume with the original settings, or start a new run in another folder"
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
    fn advice_depends_on_the_io_error_kind() {
        let advice =
            |kind: io::ErrorKind| Advice::for_write_error(&kind.into()).unwrap().to_string();
        assert!(advice(io::ErrorKind::StorageFull).contains("free some space"));
        assert!(advice(io::ErrorKind::AlreadyExists).contains("a file where a folder"));
        assert!(advice(io::ErrorKind::PermissionDenied).contains("permissions"));
        assert_eq!(Advice::for_write_error(&io::ErrorKind::Interrupted.into()), None);
    }
}
