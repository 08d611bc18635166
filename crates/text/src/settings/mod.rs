//! Keys of the config files of a tokenizer: read, without effect here, or unused.

pub mod generation;
pub mod tokenizer;
