//! Opening, loading and saving of a model's files.

mod embedded;
mod families;
mod gguf;
mod hub;
mod meta;
mod not_a_model;
mod unused_settings;
mod weight_files;
