//! Adapters on disk: every format is read into [`AdapterData`](crate::AdapterData) and written
//! from it.

mod assemble;
mod find;
mod fit;
mod folder;
mod format;
pub(crate) mod keys;
mod lit;
mod lit_v2;
mod load;
mod original;
mod original_images;
mod patterns;
pub mod peft;
mod peft_keys;
mod peft_lora;
mod peft_names;
mod settings;
mod targets;
mod tensors;
mod torch;

pub use find::resolve_path;
pub use folder::{read_folder, read_mix, unknown_settings, write_mix};
pub(crate) use format::read_for_summary;
pub use format::{AdapterReadOptions, Format, read, write};
pub use settings::SETTINGS_FILE;
