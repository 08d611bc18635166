//! The adapter against PEFT and other references, its files, its life, and its invariants.

mod decoding;
mod files;
mod keyed;
mod kinds;
mod parity;
mod tiny;
