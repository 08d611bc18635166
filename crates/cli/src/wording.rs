//! What stands around a request before the model reads it.

use clap::ValueEnum;
use llama::{ChatTemplate, Message, Tokenizer};
use train::data::template::alpaca;

/// How requests are worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wording {
    /// The Alpaca prompt, which `train` teaches with; one request at a time.
    Alpaca,
    /// The model's own chat template, with everything said so far.
    Chat,
    /// Nothing: the model goes on with the text as it is.
    Raw,
}

impl Wording {
    /// What fits a model best: adapters are taught with Alpaca's words, chat models by their
    /// template, and all others just continue texts.
    pub fn fitting(adapter: bool, tokenizer: &Tokenizer) -> Self {
        if adapter {
            Self::Alpaca
        } else if tokenizer.chat_template.is_some() {
            Self::Chat
        } else {
            Self::Raw
        }
    }

    /// Whether the model is shown more than the last message.
    pub fn remembers(self) -> bool {
        self == Self::Chat
    }

    /// Tokens that the model reads to answer the last of `messages`.
    pub fn encode(self, tokenizer: &Tokenizer, messages: &[Message]) -> llama::Result<Vec<u32>> {
        let last = messages.last().map_or("", |message| &message.content);
        match self {
            Self::Alpaca => tokenizer.encode(&alpaca(last, "")),
            // The template writes the special tokens itself.
            Self::Chat => {
                tokenizer.encode_raw(&ChatTemplate::of(tokenizer)?.render(messages, true)?)
            }
            Self::Raw => tokenizer.encode(last),
        }
    }
}
