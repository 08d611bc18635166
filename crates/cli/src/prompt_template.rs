//! messages ─► prompt tokens

use clap::ValueEnum;
use text::{ChatTemplate, Message, Tokenizer};
use train::data::template::alpaca;

/// How messages become a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PromptTemplate {
    /// The Alpaca prompt template, as used by `train`; single-turn.
    Alpaca,
    /// The model's chat template, with all earlier turns.
    Chat,
    /// No template: plain text completion.
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

    /// The prompt tokens of a conversation; all templates but [`Chat`](Self::Chat) use the last
    /// message only.
    pub fn encode(self, tokenizer: &Tokenizer, messages: &[Message]) -> text::Result<Vec<u32>> {
        let last = messages.last().map_or("", |message| &message.content);
        match self {
            Self::Alpaca => tokenizer.encode(&alpaca(last, "")),
            // The template contains the special tokens.
            Self::Chat => tokenizer
                .encode_raw(&ChatTemplate::from_tokenizer(tokenizer)?.render(messages, true)?),
            Self::Raw => tokenizer.encode(last),
        }
    }
}
