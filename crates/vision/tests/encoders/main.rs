//! Encoders and preprocessing against transformers; init and save.

mod init_and_save;
mod preprocessing;
mod transformers;
