//! Models in GGUF files: config, weights, unused settings.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use checkpoint::ByteSource;
//! use checkpoint::gguf::GgufFile;
//! use llama::gguf::{GgufSource, parse_config};
//! use llama::{Llama, Precision, weights};
//!
//! fn open(path: &str, device: &Device) -> llama::Result<Llama> {
//!     let file = GgufFile::open(ByteSource::open(path)?)?;
//!     let config = parse_config(&file)?;
//!     weights::load(config, &GgufSource::new(file)?, Precision::F32, device)
//! }
//! ```

mod config;
#[cfg(test)]
mod corrupted;
mod keys;
mod source;

pub use config::parse_config;
pub use keys::unused_settings;
pub use source::GgufSource;

/// Opens a fixture.
#[cfg(test)]
fn open(fixture: &testing::gguf::Fixture) -> checkpoint::gguf::GgufFile {
    let bytes = checkpoint::ByteSource::memory("test.gguf", fixture.bytes());
    checkpoint::gguf::GgufFile::open(bytes).unwrap()
}
