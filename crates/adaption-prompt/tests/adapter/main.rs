//! The adapter against PEFT, its files, and its invariants.

mod decoding;
mod files;
mod parity;
mod properties;
#[path = "../../../llama/tests/tiny/mod.rs"]
mod seeded;
mod tiny;
