//! The command from outside: exit codes, texts, JSON.

mod adapter_files;
mod answers;
mod bad_models;
mod chat;
mod data;
mod devices;
mod errors;
mod fetch;
mod formats;
mod help;
mod images;
mod inspect;
mod model_files;
mod plan;
mod program;
mod shell;
mod training;
mod training_refused;
