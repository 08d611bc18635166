//! What can go wrong with an adapter and its files.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files or users can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More adapted layers than the model has.
    #[error("the adapter wants {requested} layers, the model has {available}")]
    TooManyLayers {
        /// Layers of the adapter.
        requested: usize,
        /// Layers of the model.
        available: usize,
    },
    /// A layer that the model does not have.
    #[error("the adapter wants layer {layer}, the model has layers 0 to {}", .present.saturating_sub(1))]
    NoSuchLayer {
        /// Layer of the adapter, counted from 0.
        layer: usize,
        /// Layers of the model.
        present: usize,
    },
    /// A name that another adapter has already.
    #[error("an adapter called `{name}` is here already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A name that no adapter has.
    #[error("no adapter is called `{name}`; there {}", there_are(.present))]
    NoSuchAdapter {
        /// The name.
        name: String,
        /// Names of all that are there.
        present: Vec<String>,
    },
    /// An adapter that was made for another base model.
    #[error("{path}: the adapter was made for another model{}{}", base.as_ref().map_or(String::new(), |base| format!(" ({})", base.escape_debug())), .differences.iter().map(|d| format!("\n  {d}")).collect::<String>())]
    BaseMismatch {
        /// The adapter's folder.
        path: PathBuf,
        /// What the adapter calls its base.
        base: Option<String>,
        /// What differs, the adapter's base first.
        differences: Vec<String>,
    },
    /// A conversion that would change what the adapter does.
    #[error("{to} cannot hold this adapter{}", .losses.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    Lossy {
        /// The format.
        to: &'static str,
        /// What would be lost.
        losses: Vec<String>,
    },
    /// A conversion after which nothing would be left.
    #[error("{to} can hold nothing of this adapter{}", .losses.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    NothingConvertible {
        /// The format.
        to: &'static str,
        /// What would be lost.
        losses: Vec<String>,
    },
    /// Something that needs more than the adapter's file says.
    #[error("{to} needs {required}, and the adapter's file does not say that")]
    MissingBaseInfo {
        /// The format to write, or what to read.
        to: &'static str,
        /// What has to be known.
        required: &'static str,
    },
    /// A size or number of the adapter that makes no sense.
    #[error("adapter config: {field} is {found}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A folder without an adapter in it.
    #[error("{path}: no adapter here: {reason}")]
    NotAnAdapter {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A mix of adapters where a single one is wanted.
    #[error("{path}: this is a mix of several adapters, not a single one")]
    IsMix {
        /// The mix's folder.
        path: PathBuf,
    },
    /// A config that is not valid JSON, or of another method.
    #[error("{path}: {reason}")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of an adapter's config that changes what it computes and is not implemented.
    #[error("{path}: `{setting}` of {found} is not read")]
    UnsupportedSetting {
        /// The config.
        path: PathBuf,
        /// The setting.
        setting: String,
        /// Its value.
        found: String,
    },
    /// LoRA for a base that PEFT itself changes when it loads such an adapter.
    #[error(
        "{path}: PEFT changes the base model when it loads LoRA with `init_lora_weights` of {found}, and this program does not"
    )]
    ModifiesBase {
        /// The config.
        path: PathBuf,
        /// Its value.
        found: String,
    },
    /// A folder of adapters where a single one is wanted.
    #[error("{path}: no adapter here, but in its folders: {}", .names.join(", "))]
    AdaptersInSubfolders {
        /// The folder.
        path: PathBuf,
        /// Names of the folders or files that are adapters.
        names: Vec<String>,
    },
    /// A base model where an adapter is wanted.
    #[error("{path}: this is a model, not an adapter")]
    IsModel {
        /// Its folder or file.
        path: PathBuf,
    },
    /// Tensors that do not fit the adapter's config or the model.
    #[error("{path}: the adapter does not fit{}", .problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    TensorMismatch {
        /// The file.
        path: PathBuf,
        /// Everything that is missing, unexpected, of another shape or not finite.
        problems: Vec<String>,
    },
    /// A file could not be read or written, or breaks its format.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
    /// The base model or the device failed.
    #[error(transparent)]
    Model(#[from] llama::Error),
}

fn there_are(present: &[String]) -> String {
    match present {
        [] => "are none".into(),
        [one] => format!("is `{one}`"),
        many => format!("are `{}`", many.join("`, `")),
    }
}

impl Error {
    /// A setting of a config that is refused.
    pub(crate) fn unsupported_setting(
        path: &Path,
        setting: &str,
        value: &serde_json::Value,
    ) -> Self {
        Self::UnsupportedSetting {
            path: path.into(),
            setting: setting.into(),
            found: truncated(value),
        }
    }
}

/// A setting's value, for messages.
pub(crate) fn truncated(value: &serde_json::Value) -> String {
    /// Letters of it that a message has.
    const LETTERS: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LETTERS) {
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
            Self::AdaptersInSubfolders { path, names: inside } => match inside.first() {
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
    fn a_model_without_layers_is_told_without_a_panic() {
        let error = Error::NoSuchLayer { layer: 1, present: 0 };
        assert!(error.to_string().starts_with("the adapter wants layer 1"), "{error}");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(truncated(&serde_json::json!([1, 2])), "[1,2]");
        assert_eq!(truncated(&"ü".repeat(99).into()), format!("\"{}...", "ü".repeat(59)));
    }
}
