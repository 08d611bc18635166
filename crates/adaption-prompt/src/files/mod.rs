//! Adapters on disk: every format is read into [`AdapterData`](crate::AdapterData) and written
//! from it.

mod assemble;
mod fit;
mod folder;
mod format;
pub(crate) mod keys;
mod lit;
mod lit_v2;
mod load;
mod meta_rows;
mod original;
mod original_images;
pub mod peft;
mod settings;
mod tensors;
mod torch;

pub use folder::{read_folder, read_mix, write_mix};
pub(crate) use format::read_to_show;
pub use format::{Format, Hints, read, write};
pub use settings::SETTINGS_FILE;
