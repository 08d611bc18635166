//! What is read of a model's files, and what is written.

mod chat;
mod embedded;
mod families;
mod gguf;
mod hub;
mod meta;
mod not_a_model;
mod special_tokens;
#[path = "../tiny/mod.rs"]
mod tiny;
mod weight_files;
