//! messages ─► prompt: the Alpaca template of fine-tuning, a chat template, or no template.
//!
//! ```text
//! PromptTemplate   which template
//! PromptFormat     a template and a system prompt: what an adapter's folder stores
//! PromptEncoder    a format compiled for a tokenizer: prompts, stop tokens, rows with their labels
//! ```

mod encoder;
mod format;
mod labels;
mod sources;

use std::fmt;

use crate::chat_template::ChatTemplate;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

pub use encoder::PromptEncoder;
pub use format::PromptFormat;
pub use labels::{LabeledTokens, LossOn};

/// The Alpaca prompt, without a newline after `### Response:`.
///
/// Source: Stanford Alpaca; the original LLaMA-Adapter uses it unchanged.
pub fn alpaca(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately \
             completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
        )
    }
}

/// How messages become a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PromptTemplate {
    /// The [`alpaca`] template; single-turn.
    Alpaca,
    /// The model's own chat template.
    Chat,
    /// `<|im_start|>role`, the content, `<|im_end|>`.
    ChatMl,
    /// The format of Llama 2 Chat: `[INST] <<SYS>>`.
    Llama2,
    /// The format of Llama 3 Instruct: `<|start_header_id|>role<|end_header_id|>`.
    Llama3,
    /// The format of Mistral Instruct: `[INST]`.
    Mistral,
    /// No template: plain text completion; single-turn.
    Raw,
    /// A chat template in Jinja.
    Custom {
        /// Its name, such as that of its file.
        name: String,
        /// Its source, with the variables and functions of chat templates in transformers.
        source: String,
    },
}

impl PromptTemplate {
    /// Every template with a name.
    pub const NAMED: [Self; 7] = [
        Self::Alpaca,
        Self::Chat,
        Self::ChatMl,
        Self::Llama2,
        Self::Llama3,
        Self::Mistral,
        Self::Raw,
    ];

    /// The name, on the command line and in files.
    pub fn name(&self) -> &str {
        match self {
            Self::Alpaca => "alpaca",
            Self::Chat => "chat",
            Self::ChatMl => "chatml",
            Self::Llama2 => "llama-2",
            Self::Llama3 => "llama-3",
            Self::Mistral => "mistral",
            Self::Raw => "raw",
            Self::Custom { name, .. } => name,
        }
    }

    /// The template of a name: one of [`NAMED`](Self::NAMED), or `plain` for [`Raw`](Self::Raw).
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "plain" { "raw" } else { name };
        Self::NAMED.into_iter().find(|template| template.name() == name)
    }

    /// The template that matches the training, where nothing says which one that was: Alpaca for
    /// adapters, the chat template for chat models, none for other models.
    pub fn default_for(adapted: bool, tokenizer: &Tokenizer) -> Self {
        if adapted {
            Self::Alpaca
        } else if tokenizer.chat_template.is_some() {
            Self::Chat
        } else {
            Self::Raw
        }
    }

    /// Whether the prompt contains earlier turns.
    pub fn is_multi_turn(&self) -> bool {
        !matches!(self, Self::Alpaca | Self::Raw)
    }

    /// The source of the chat template for a tokenizer; `None` for the single-turn templates, and for
    /// [`Chat`](Self::Chat) if the model has none.
    pub fn source(&self, tokenizer: &Tokenizer) -> Option<String> {
        let source = match self {
            Self::Alpaca | Self::Raw => return None,
            Self::Chat => return tokenizer.chat_template.clone(),
            Self::Custom { source, .. } => return Some(source.clone()),
            Self::ChatMl => sources::CHATML,
            Self::Llama2 => sources::LLAMA_2,
            Self::Llama3 => sources::LLAMA_3,
            Self::Mistral => sources::MISTRAL,
        };
        let mut source = source.to_owned();
        if let Some(eos) = tokenizer.named_token("eos_token") {
            for token in sources::END_OF_TURN {
                if tokenizer.id(token).is_none() {
                    source = source.replace(token, &eos.replace('\\', "\\\\").replace('\'', "\\'"));
                }
            }
        }
        Some(source)
    }

    /// The compiled chat template; `None` for the single-turn templates.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the model has none, or for an invalid one.
    pub(crate) fn compile(&self, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
        let Some(source) = self.source(tokenizer) else {
            return match self {
                Self::Chat => ChatTemplate::from_tokenizer(tokenizer).map(Some),
                _ => Ok(None),
            };
        };
        let template = ChatTemplate::with_tokens_of(&source, tokenizer);
        template.map(Some).map_err(|error| match (self, error) {
            (Self::Custom { name, .. }, Error::ChatTemplate { reason }) => {
                Error::ChatTemplate { reason: format!("{name}: {reason}") }
            }
            (_, other) => other,
        })
    }
}

impl fmt::Display for PromptTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_template_is_alpacas() {
        assert_eq!(
            alpaca("Sum.", "1 2"),
            "Below is an instruction that describes a task, paired with an input that provides \
             further context. Write a response that appropriately completes the request.\n\n\
             ### Instruction:\nSum.\n\n### Input:\n1 2\n\n### Response:"
        );
        assert!(
            alpaca("Sum.", "").ends_with("request.\n\n### Instruction:\nSum.\n\n### Response:")
        );
    }

    #[test]
    fn every_named_template_is_found_by_its_name() {
        for template in PromptTemplate::NAMED {
            assert_eq!(PromptTemplate::from_name(template.name()), Some(template));
        }
        assert_eq!(PromptTemplate::from_name("plain"), Some(PromptTemplate::Raw));
        assert_eq!(PromptTemplate::from_name("other"), None);
    }

    #[test]
    fn the_default_template_is_that_of_the_training() {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        let mut tokenizer = Tokenizer::from_folder(&folder).unwrap();
        tokenizer.chat_template = None;
        assert_eq!(PromptTemplate::default_for(true, &tokenizer), PromptTemplate::Alpaca);
        assert_eq!(PromptTemplate::default_for(false, &tokenizer), PromptTemplate::Raw);
        tokenizer.chat_template = Some("{{ messages[0].content }}".into());
        assert_eq!(PromptTemplate::default_for(true, &tokenizer), PromptTemplate::Alpaca);
        assert_eq!(PromptTemplate::default_for(false, &tokenizer), PromptTemplate::Chat);
    }
}
