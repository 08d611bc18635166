//! The adapter against PEFT, its files, and its invariants.

mod decoding;
mod files;
mod parity;
mod tiny;
