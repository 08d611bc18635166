//! Encoders and pictures against transformers, and encoders of one's own.

mod own_encoders;
mod pictures;
mod transformers;
