//! Adapters on disk. Every format is read into [`AdapterData`](crate::AdapterData) and written from it.
//!
//! ```text
//! path ─► Format::detect ─► native │ peft │ original │ lit ─read─► AdapterData
//!         AdapterData ─► what the format can hold, and losses ─► native │ peft │ original │ lit
//! ```
//!
//! Only `format.rs` knows all formats. A format's folder knows the parts that this format can hold.

mod format;
mod gates;
mod layers;
mod lit;
mod load_save;
mod locate;
mod native;
mod original;
pub mod peft;
mod prompt_format;
mod read_purpose;
mod torch_file;

pub use format::{AdapterReadOptions, Format, read, unknown_settings, write};
pub use locate::resolve_path;
pub use native::{SETTINGS_FILE, read_embedded, read_folder, read_mix, write_mix};
pub use prompt_format::{PROMPT_FORMAT_FILE, read_prompt_format};
