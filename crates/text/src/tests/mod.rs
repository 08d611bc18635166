//! Tokenizers and templates against golden files of `transformers` and `tokenizers`.

mod chat;
mod chat_masks;
mod golden_tokens;
mod special_tokens;
mod streaming;
