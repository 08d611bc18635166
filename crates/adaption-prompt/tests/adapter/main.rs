//! The adapter against PEFT, its files, and its invariants.

mod files;
mod parity;
mod tiny;
