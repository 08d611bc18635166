//! The adapter against PEFT, its files, and its invariants.

mod conversions;
mod decoding;
mod files;
mod formats;
mod parity;
mod properties;
#[path = "../../../llama/tests/tiny/mod.rs"]
mod seeded;
mod tiny;
