//! What is read of a model's files, and what is written.

mod embedded;
mod families;
mod gguf;
mod hub;
mod meta;
mod not_a_model;
#[path = "../tiny/mod.rs"]
mod tiny;
mod unused_settings;
mod weight_files;
