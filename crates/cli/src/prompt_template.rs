//! Values of `--prompt-template`.

use text::PromptTemplate;

use crate::choice::choice;

choice! {
    /// How messages become a prompt.
    pub enum PromptTemplateChoice => PromptTemplate {
        /// The Alpaca prompt template, as used by `train`; single-turn.
        Alpaca => Self::Alpaca,
        /// The model's chat template, with all earlier turns.
        Chat => Self::Chat,
        /// No template: plain text completion.
        Raw => Self::Raw,
    }
}
