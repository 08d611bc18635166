//! Settings of `config.json` with a single supported value.

use checkpoint::settings::Fields;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Rejects any value but this one; the field may be absent.
///
/// # Errors
/// [`Error::Config`]
pub(super) fn require<T>(json: &Fields<'_>, key: &str, supported: T) -> Result<()>
where
    T: DeserializeOwned + PartialEq + ToString,
{
    match json.optional::<T>(key)?.filter(|found| *found != supported) {
        Some(found) => Err(Error::config(key, found.to_string(), supported.to_string())),
        None => Ok(()),
    }
}

/// Rejects any activation but these; the field may be absent.
///
/// # Errors
/// [`Error::Config`]
pub(super) fn require_activation(json: &Fields<'_>, key: &str, supported: &[&str]) -> Result<()> {
    match json.optional::<String>(key)?.filter(|found| !supported.contains(&found.as_str())) {
        Some(found) => Err(Error::config(key, found, supported.join(" or "))),
        None => Ok(()),
    }
}
