//! The adapters that can be asked for, by name, whether they are in memory or not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::source::{AdapterInfo, AdapterLocation, AdapterSource};
use crate::error::LoadError;

/// Names and what is known of them. Shared by the engine's threads and its handles.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<BTreeMap<String, Entry>>,
    count: AtomicU64,
}

/// One adapter.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) source: AdapterSource,
    pub(crate) facts: Facts,
    /// Unique: a later adapter of the same name has another.
    pub(crate) number: u64,
}

/// What became known by loading it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) loaded: bool,
    pub(crate) bytes: Option<usize>,
    pub(crate) sees_images: Option<bool>,
    pub(crate) broken: Option<String>,
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an adapter.
    ///
    /// # Errors
    /// [`LoadError::NameTaken`], [`LoadError::Name`]
    pub(crate) fn add(&self, source: AdapterSource, facts: Facts) -> Result<(), LoadError> {
        source.check_name()?;
        let mut entries = self.entries();
        if entries.contains_key(&source.name) {
            return Err(LoadError::NameTaken(source.name));
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        entries.insert(source.name.clone(), Entry { source, facts, number });
        Ok(())
    }

    /// Removes an adapter; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> bool {
        self.entries().remove(name).is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Entry> {
        self.entries().get(name).cloned()
    }

    /// Changes what is known of an adapter, if it is still there.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Facts)) {
        if let Some(entry) = self.entries().get_mut(name) {
            change(&mut entry.facts);
        }
    }

    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        self.entries().values().map(Entry::info).collect()
    }
}

impl Entry {
    pub(crate) fn info(&self) -> AdapterInfo {
        let path = match &self.source.location {
            AdapterLocation::Path(path) => Some(path.clone()),
            AdapterLocation::Data(_) => None,
        };
        let Facts { loaded, bytes, sees_images, broken } = self.facts.clone();
        AdapterInfo { name: self.source.name.clone(), path, loaded, bytes, sees_images, broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_used_once() {
        let registry = Registry::default();
        let add = |name: &str| registry.add(AdapterSource::path(name, "a"), Facts::default());
        add("b").unwrap();
        add("a").unwrap();
        assert!(matches!(add("a"), Err(LoadError::NameTaken(_))));
        let names = registry.list().into_iter().map(|own| own.name).collect::<Vec<_>>();
        assert_eq!(names, ["a", "b"]);
        assert!(registry.remove("a"));
        assert!(!registry.remove("a"));
        add("a").unwrap();
    }
}
