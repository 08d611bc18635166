//! Adapters: parity with PEFT and other references, files, adapter sets, and invariants.

#![expect(clippy::disallowed_methods, reason = "tests may wait for a device")]

mod conversions;
mod decoding;
mod files;
mod fixtures;
mod formats;
mod golden_models;
mod images;
mod lifecycle;
mod malformed_folders;
mod methods;
mod mixing;
mod named_tensors;
mod packed_adapters;
mod parity;
mod peft_lora;
mod peft_suite;
mod properties;
mod row_adapters;
