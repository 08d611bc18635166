//! Lines that the texts of several kinds of files share.

use std::fmt;

use indicatif::{HumanBytes, HumanCount};

/// Number of parameters and size on disk.
pub fn write_size(f: &mut fmt::Formatter<'_>, parameters: usize, bytes: u64) -> fmt::Result {
    writeln!(f, "parameters  {}", HumanCount(parameters as u64))?;
    writeln!(f, "on disk     {}", HumanBytes(bytes))
}

/// Whether the model has a chat template.
pub fn write_chat_template(f: &mut fmt::Formatter<'_>, present: bool) -> fmt::Result {
    writeln!(f, "chat        {}", if present { "template" } else { "no template" })
}
