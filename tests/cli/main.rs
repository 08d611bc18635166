//! Tests of the program from outside: exit codes, texts, JSON.

mod adapter_files;
mod batch;
mod chat;
mod damaged_models;
mod data;
mod devices;
mod errors;
mod fetch;
mod formats;
mod generate;
mod help;
mod images;
mod inspect;
mod logits;
mod model_files;
mod old_names;
mod plan;
mod program;
mod prompts;
mod serve;
mod shell;
mod training;
mod training_refused;
