//! Adapters on disk.

mod folder;
mod keys;
pub mod peft;
mod settings;
mod tensors;

pub use folder::read_folder;
pub use settings::SETTINGS_FILE;
