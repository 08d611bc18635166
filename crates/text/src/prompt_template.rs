//! messages ─► prompt: the Alpaca template of fine-tuning, the model's chat template, or no template.

use serde::{Deserialize, Serialize};

use crate::chat_template::{ChatTemplate, Message};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptTemplate {
    /// The [`alpaca`] template, as in training; single-turn.
    Alpaca,
    /// The model's chat template, with all earlier turns.
    Chat,
    /// No template: plain text completion; single-turn.
    Raw,
}

impl PromptTemplate {
    /// The template that matches the training: Alpaca for adapters, the chat template for chat
    /// models, none for other models.
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
    pub fn is_multi_turn(self) -> bool {
        self == Self::Chat
    }

    /// The prompt tokens of a conversation, with the start of the response.
    ///
    /// The single-turn templates take the last message. System messages precede it, separated by empty
    /// lines: these templates have no other place for them.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`](crate::Error::ChatTemplate) if the model has no chat template or it rejects
    /// the messages; [`Error::Tokenizer`](crate::Error::Tokenizer).
    pub fn encode(self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        match self {
            Self::Alpaca => tokenizer.encode(&alpaca(&single_turn(messages), "")),
            // The template contains the special tokens.
            Self::Chat => tokenizer
                .encode_raw(&ChatTemplate::from_tokenizer(tokenizer)?.render(messages, true)?),
            Self::Raw => tokenizer.encode(&single_turn(messages)),
        }
    }
}

/// The system messages and the last message.
fn single_turn(messages: &[Message]) -> String {
    let Some((last, earlier)) = messages.split_last() else { return String::new() };
    let system = earlier.iter().filter(|message| message.role == "system");
    let texts = system.chain([last]).map(|message| message.content.as_str());
    texts.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny_tokenizer() -> Tokenizer {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        Tokenizer::from_folder(&folder).unwrap()
    }

    fn conversation() -> Vec<Message> {
        vec![
            Message::new("system", "Be brief."),
            Message::new("user", "Name a fruit."),
            Message::new("assistant", "A plum."),
            Message::new("user", "Name a color."),
        ]
    }

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
    fn single_turn_templates_take_the_last_message_after_the_system_prompt() {
        let tokenizer = tiny_tokenizer();
        let instruction = "Be brief.\n\nName a color.";
        let encode = |template: PromptTemplate| template.encode(&tokenizer, &conversation());
        let expected = tokenizer.encode(&alpaca(instruction, "")).unwrap();
        assert_eq!(encode(PromptTemplate::Alpaca).unwrap(), expected);
        assert_eq!(encode(PromptTemplate::Raw).unwrap(), tokenizer.encode(instruction).unwrap());
        let single = PromptTemplate::Raw.encode(&tokenizer, &conversation()[3..]).unwrap();
        assert_eq!(single, tokenizer.encode("Name a color.").unwrap());
    }

    #[test]
    fn the_chat_template_takes_every_message() {
        let mut tokenizer = tiny_tokenizer();
        tokenizer.chat_template =
            Some("{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}".into());
        let text = "system: Be brief. user: Name a fruit. assistant: A plum. user: Name a color. ";
        let encoded = PromptTemplate::Chat.encode(&tokenizer, &conversation()).unwrap();
        assert_eq!(encoded, tokenizer.encode_raw(text).unwrap());
    }

    #[test]
    fn the_default_template_is_that_of_the_training() {
        let mut tokenizer = tiny_tokenizer();
        tokenizer.chat_template = None;
        assert_eq!(PromptTemplate::default_for(true, &tokenizer), PromptTemplate::Alpaca);
        assert_eq!(PromptTemplate::default_for(false, &tokenizer), PromptTemplate::Raw);
        tokenizer.chat_template = Some("{{ messages[0].content }}".into());
        assert_eq!(PromptTemplate::default_for(true, &tokenizer), PromptTemplate::Alpaca);
        assert_eq!(PromptTemplate::default_for(false, &tokenizer), PromptTemplate::Chat);
    }
}
