//! Errors of adapters and their files.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error caused by files or user input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More adapted layers than the model has layers.
    #[error("the adapter has {requested} adapted layers, the model has {available} layers")]
    TooManyLayers {
        /// Adapted layers.
        requested: usize,
        /// Layers of the model.
        available: usize,
    },
    /// An adapted layer that the model does not have.
    #[error("the adapter has adapted layer {layer}, the model has layers 0 to {}", .available.saturating_sub(1))]
    NoSuchLayer {
        /// Index of the adapted layer, from 0.
        layer: usize,
        /// Layers of the model.
        available: usize,
    },
    /// The name of another adapter.
    #[error("an adapter called `{name}` is already loaded")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// An unknown adapter name.
    #[error("no adapter is called `{name}`; there {}", list_names(.available))]
    NoSuchAdapter {
        /// The name.
        name: String,
        /// All names.
        available: Vec<String>,
    },
    /// An adapter of another base model.
    #[error("{path}: the adapter was made for another model{}{}", base.as_ref().map_or(String::new(), |base| format!(" ({})", base.escape_debug())), .differences.iter().map(|d| format!("\n  {d}")).collect::<String>())]
    BaseMismatch {
        /// The adapter's folder.
        path: PathBuf,
        /// The base model's name in the adapter's file.
        base: Option<String>,
        /// The differences, the adapter's base first.
        differences: Vec<String>,
    },
    /// A lossy conversion that was not allowed.
    #[error("{to} cannot hold this adapter{}", .losses.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    Lossy {
        /// The format.
        to: &'static str,
        /// What would be lost.
        losses: Vec<String>,
    },
    /// A conversion that would keep nothing.
    #[error("{to} can hold nothing of this adapter{}", .losses.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    NothingConvertible {
        /// The format.
        to: &'static str,
        /// What would be lost.
        losses: Vec<String>,
    },
    /// The base model's sizes are needed, and the adapter's file does not contain them.
    #[error("{to} needs {required}, which the adapter file does not contain")]
    MissingBaseInfo {
        /// The format or the operation.
        to: &'static str,
        /// The missing information.
        required: &'static str,
    },
    /// An invalid setting of an adapter's config.
    #[error("adapter config: {field} is {found}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// The valid values.
        expected: &'static str,
    },
    /// A folder or file that is not an adapter.
    #[error("{path}: no adapter here: {reason}")]
    NotAnAdapter {
        /// The folder or file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A mix of adapters where a single adapter is expected.
    #[error("{path}: this is a mix of several adapters, not a single one")]
    IsMix {
        /// The mix's folder.
        path: PathBuf,
    },
    /// A config that is invalid JSON or has invalid settings.
    #[error("{path}: {reason}")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A setting that changes the adapter's results and is not implemented.
    #[error("{path}: `{setting}` of {found} is not supported")]
    UnsupportedSetting {
        /// The config.
        path: PathBuf,
        /// The setting.
        setting: String,
        /// Its value.
        found: String,
    },
    /// LoRA for which PEFT modifies the base model.
    #[error(
        "{path}: PEFT changes the base model when it loads LoRA with `init_lora_weights` of {found}, and this program does not"
    )]
    ModifiesBase {
        /// The config.
        path: PathBuf,
        /// Value of the setting.
        found: String,
    },
    /// A folder of several adapters where a single adapter is expected.
    #[error("{path}: no adapter here, but in its folders: {}", .names.join(", "))]
    AdaptersInSubfolders {
        /// The folder.
        path: PathBuf,
        /// Names of the folders or files that are adapters.
        names: Vec<String>,
    },
    /// A base model where an adapter is expected.
    #[error("{path}: this is a model, not an adapter")]
    IsModel {
        /// Its folder or file.
        path: PathBuf,
    },
    /// Tensors that do not match the adapter's config or the model.
    #[error("{path}: the adapter does not fit{}", .problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    TensorMismatch {
        /// The file.
        path: PathBuf,
        /// Every tensor that is missing, unexpected, of another shape or not finite.
        problems: Vec<String>,
    },
    /// A file that cannot be read or written, or is malformed.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
    /// An error of the base model or the device.
    #[error(transparent)]
    Model(#[from] llama::Error),
}

fn list_names(names: &[String]) -> String {
    match names {
        [] => "are none".into(),
        [one] => format!("is `{one}`"),
        many => format!("are `{}`", many.join("`, `")),
    }
}

impl Error {
    /// [`Error::UnsupportedSetting`]
    pub(crate) fn unsupported_setting(
        path: &Path,
        setting: &str,
        value: &serde_json::Value,
    ) -> Self {
        let (setting, found) = (setting.into(), truncated(value));
        Self::UnsupportedSetting { path: path.into(), setting, found }
    }
}

/// A setting's value, at most 60 characters of it.
pub(crate) fn truncated(value: &serde_json::Value) -> String {
    const MAX_CHARS: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::TooManyLayers { .. } => Advice::FewerLayers,
            Self::NoSuchLayer { .. } => "layers are counted from 0".into(),
            Self::NameTaken { .. } => "give it another name, or remove that one first".into(),
            Self::BaseMismatch { .. } => Advice::UseMatchingBase,
            Self::Lossy { .. } => Advice::AllowLossyConversion,
            Self::NothingConvertible { .. } => "the format llama-adapter holds every adapter".into(),
            Self::MissingBaseInfo { .. } => Advice::GiveBaseModel,
            Self::IsMix { .. } => {
                "give the folder of one of its parts, which are inside".into()
            }
            Self::NotAnAdapter { .. } => {
                "give the folder that holds adapter_config.json and adapter_model.safetensors, or the \
                 file of an adapter of the original release, lit-llama or litgpt"
                    .into()
            }
            Self::UnsupportedSetting { .. } => {
                "let PEFT merge it into its base (`merge_and_unload`), save that, and take it as the base \
                 model without an adapter"
                    .into()
            }
            Self::ModifiesBase { .. } => {
                "let PEFT make an ordinary LoRA of it (`save_pretrained` with \
                 `path_initial_model_for_weight_conversion`), or merge it into its base \
                 (`merge_and_unload`) and take that as the base model"
                    .into()
            }
            Self::AdaptersInSubfolders { path, names } => match names.first() {
                Some(one) => format!("give one of them, such as {}", path.join(one).display()).into(),
                None => return None,
            },
            Self::IsModel { .. } => Advice::UseAsModel,
            Self::ConfigFile { .. } => {
                "give the folder of an adapter as PEFT or this program writes it".into()
            }
            Self::TensorMismatch { .. } => {
                "check that the adapter's files belong together, and that it was made for this model"
                    .into()
            }
            Self::NoSuchAdapter { .. } | Self::Config { .. } => return None,
            Self::File(error) => return error.advice(),
            Self::Model(error) => return error.advice(),
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::File(error) => error.is_usage(),
            Self::Model(error) => error.is_usage(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_layer_of_an_empty_model_is_reported_without_panic() {
        let error = Error::NoSuchLayer { layer: 1, available: 0 };
        assert!(error.to_string().starts_with("the adapter has adapted layer 1"), "{error}");
    }

    #[test]
    fn long_value_is_truncated() {
        assert_eq!(truncated(&serde_json::json!([1, 2])), "[1,2]");
        assert_eq!(truncated(&"ü".repeat(99).into()), format!("\"{}...", "ü".repeat(59)));
    }
}
