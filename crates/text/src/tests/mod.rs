//! Tokenizers and templates against golden files of `transformers` and `tokenizers`.

mod chat;
mod golden_tokens;
mod special_tokens;
mod streaming;
