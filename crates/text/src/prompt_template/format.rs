//! A prompt template with a system prompt, as an adapter's folder stores it.

use serde::{Deserialize, Serialize};

use super::{PromptEncoder, PromptTemplate};
use crate::chat_template::Message;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// How messages become a prompt: a template, and the system prompt of conversations that have none.
///
/// An adapter works with the format that it was trained with. In JSON:
///
/// ```
/// use text::{PromptFormat, PromptTemplate};
///
/// let format: PromptFormat = serde_json::from_str(r#"{"template": "chatml", "system": "Be brief."}"#)?;
/// assert_eq!(format.template, PromptTemplate::ChatMl);
/// let own = r#"{"template": "mine", "source": "{{ messages[-1].content }}"}"#;
/// assert_eq!(serde_json::from_str::<PromptFormat>(own)?.template.name(), "mine");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StoredFormat", into = "StoredFormat")]
pub struct PromptFormat {
    /// The template.
    pub template: PromptTemplate,
    /// The system prompt of conversations without a system message.
    pub system: Option<String>,
}

impl Default for PromptFormat {
    /// The Alpaca template without a system prompt.
    fn default() -> Self {
        PromptTemplate::Alpaca.into()
    }
}

impl From<PromptTemplate> for PromptFormat {
    fn from(template: PromptTemplate) -> Self {
        Self { template, system: None }
    }
}

impl PromptFormat {
    /// Whether this is the format of adapters that say nothing about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The prompt tokens of a conversation, with the start of the response. To encode many, make a
    /// [`PromptEncoder`].
    ///
    /// # Errors
    /// As [`PromptEncoder::new`] and [`PromptEncoder::prompt`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        PromptEncoder::new(self, tokenizer)?.prompt(tokenizer, messages)
    }
}

/// The form in files.
#[derive(Serialize, Deserialize)]
struct StoredFormat {
    template: String,
    /// Only of templates that have no known name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
}

impl From<PromptFormat> for StoredFormat {
    fn from(PromptFormat { template, system }: PromptFormat) -> Self {
        match template {
            PromptTemplate::Custom { name, source } => {
                Self { template: name, source: Some(source), system }
            }
            named => Self { template: named.name().into(), source: None, system },
        }
    }
}

impl TryFrom<StoredFormat> for PromptFormat {
    type Error = String;

    fn try_from(StoredFormat { template, source, system }: StoredFormat) -> Result<Self, String> {
        let template = match source {
            Some(source) => PromptTemplate::Custom { name: template, source },
            None => PromptTemplate::from_name(&template).ok_or_else(|| {
                let known = PromptTemplate::NAMED.map(|known| known.name().to_owned()).join(", ");
                format!("the prompt template `{}` is none of {known}", template.escape_debug())
            })?,
        };
        Ok(Self { template, system })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_read_as_it_was_written() {
        let custom = PromptTemplate::Custom { name: "alpaca".into(), source: "{{ a }}".into() };
        for template in PromptTemplate::NAMED.into_iter().chain([custom]) {
            for system in [None, Some("Be kind.".to_owned())] {
                let format = PromptFormat { template: template.clone(), system };
                let json = serde_json::to_string(&format).unwrap();
                assert_eq!(serde_json::from_str::<PromptFormat>(&json).unwrap(), format, "{json}");
            }
        }
    }

    #[test]
    fn an_unknown_template_is_refused_with_the_known_ones() {
        let error = serde_json::from_str::<PromptFormat>(r#"{"template": "vicuna"}"#).unwrap_err();
        let expected = "the prompt template `vicuna` is none of alpaca, chat, chatml, llama-2";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
