//! Paths in JSON, which holds texts alone: what is no UTF-8 in them becomes `�`.

use std::path::{Path, PathBuf};

use serde::Serializer;

/// A path.
pub(crate) fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A path, if there is one.
#[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
pub(crate) fn serialize_optional_path<S: Serializer>(
    found: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match found {
        Some(found) => serialize_path(found, serializer),
        None => serializer.serialize_none(),
    }
}
