//! The adapter against PEFT and other references, its files, its life, and its invariants.

#![expect(clippy::disallowed_methods, reason = "tests may wait for a device")]

mod conversions;
mod decoding;
mod files;
mod formats;
mod hostile;
mod images;
mod keyed;
mod kinds;
mod lifecycle;
mod mixing;
mod parity;
mod peft_lora;
mod peft_suite;
mod properties;
mod rows;
mod tiny;
mod zoo;

use testing::tiny_model as seeded;
