//! Keys of the files beside a tokenizer.

pub(crate) mod generation;
pub(crate) mod tokenizer;
