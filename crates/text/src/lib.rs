//! Text ◄─► tokens: tokenizers of every file format, special tokens, streaming detokenization, stop strings,
//! chat templates and prompt templates.
//!
//! ```text
//! messages ─► PromptFormat ─► prompt ─► Tokenizer ─► token ids
//! token ids, one at a time ─► Detokenizer ─► StopStrings ─► pieces of text      (together: TextStream)
//! ```
//!
//! A [`Tokenizer`] comes from `tokenizer.json`, `tokenizer.model` (SentencePiece and tiktoken), `vocab.json`
//! with `merges.txt`, or GGUF metadata.
//!
//! ```
//! use text::{ChatTemplate, Message, TextStream, Tokenizer};
//!
//! # fn main() -> text::Result<()> {
//! # let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
//! let tokenizer = Tokenizer::from_folder(&folder)?;
//! let tokens = tokenizer.encode("The plural of cow is cows. The plural of")?;
//!
//! // Text as tokens arrive, up to the first stop string.
//! let mut stream = TextStream::new(&tokenizer, &[".".to_owned()]);
//! let mut text = String::new();
//! for token in tokens {
//!     text += &stream.push(token)?;
//! }
//! assert_eq!(text, "The plural of cow is cows");
//!
//! let template = ChatTemplate::new("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")?;
//! assert_eq!(template.render(&[Message::new("user", "Hello!")], true)?, "user: Hello!\n");
//! # Ok(())
//! # }
//! ```

mod chat_template;
mod detokenizer;
mod error;
mod formats;
// Entry points for `fuzz/` and the property tests.
#[doc(hidden)]
pub mod fuzz;
mod prompt_template;
// `llama` checks the generation settings in `config.json` with the same tables.
#[doc(hidden)]
pub mod settings;
mod special_tokens;
mod stop_strings;
mod strftime;
#[cfg(test)]
mod tests;
mod text_stream;
mod token_bytes;
mod tokenizer;
mod tokenizer_files;
mod vocabulary;

pub use chat_template::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
// The Hub client in `llama` downloads these files.
#[doc(hidden)]
pub use formats::TOKENIZER_FILES;
pub use prompt_template::{
    LabeledTokens, LossOn, PromptEncoder, PromptFormat, PromptTemplate, alpaca,
};
pub use stop_strings::StopStrings;
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
#[doc(hidden)]
pub use tokenizer_files::OPTIONAL_FILES;
pub use tokenizer_files::TokenizerFiles;
/// The crate whose tokenizers [`Tokenizer::new`] wraps.
pub use tokenizers;
