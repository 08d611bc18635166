//! Where adapters come from, and what is known of them.

use std::path::PathBuf;
use std::sync::Arc;

use adaption_prompt::{AdapterData, ImageConfig};
use diagnostic::Diagnostic;
use vision::FeatureExtractor;

use crate::error::LoadError;

/// An adapter to serve.
#[derive(Debug, Clone)]
pub struct AdapterSource {
    /// Its name in requests: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Where it is.
    pub location: AdapterLocation,
}

/// Where an adapter is.
#[derive(Debug, Clone)]
pub enum AdapterLocation {
    /// A folder or file of any format. It is read again when its files change.
    Path(PathBuf),
    /// In memory.
    Data(Arc<AdapterData>),
}

impl AdapterSource {
    /// An adapter in a folder or file.
    pub fn path(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), location: AdapterLocation::Path(path.into()) }
    }

    /// An adapter in memory.
    pub fn data(name: impl Into<String>, data: AdapterData) -> Self {
        Self { name: name.into(), location: AdapterLocation::Data(Arc::new(data)) }
    }

    /// # Errors
    /// [`LoadError::Name`]
    pub(crate) fn check_name(&self) -> Result<(), LoadError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&self.name.len()) && self.name.bytes().all(allowed) {
            return Ok(());
        }
        let shown = self.name.chars().take(64).collect();
        Err(LoadError::Name(shown))
    }
}

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AdapterInfo {
    /// Its name.
    pub name: String,
    /// Its folder or file, if it has one.
    pub path: Option<PathBuf>,
    /// Whether it is prepared in memory now. Others are loaded when they are asked for.
    pub loaded: bool,
    /// Bytes in memory; `None` if it was not loaded yet.
    pub bytes: Option<usize>,
    /// Whether it has an image condition; `None` if it was not loaded yet.
    pub sees_images: Option<bool>,
    /// Why the last attempt to load it failed.
    pub broken: Option<String>,
}

/// Image encoders for the adapters with an image condition.
pub trait ImageEncoders: Send + Sync {
    /// The encoder whose features all of these image conditions were trained with. It is called for each
    /// new image.
    ///
    /// # Errors
    /// If there is none.
    fn extractor(
        &self,
        conditions: &[&ImageConfig],
    ) -> Result<Arc<FeatureExtractor>, Box<dyn Diagnostic + Send + Sync>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_safe_characters() {
        let check = |name: &str| AdapterSource::path(name, "a").check_name();
        for name in ["a", "A.b_c-9", &"x".repeat(64)] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "a b", "ä", "a:b", &"x".repeat(65)] {
            assert!(check(name).is_err(), "{name}");
        }
        assert_eq!(
            check("a\nb").unwrap_err().to_string(),
            "`a\\nb` is not a name of an adapter, expected 1 to 64 of A-Z a-z 0-9 . _ -"
        );
    }
}
