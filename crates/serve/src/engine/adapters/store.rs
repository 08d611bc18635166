//! Prepared adapters in memory, and who has to go when there are too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::instance::Instance;
use super::load::{AdapterLoader, Loaded};
use super::registry::{Entry, Facts};
use super::source::{AdapterInfo, AdapterSource};
use super::stamp::Stamp;
use crate::engine::handle::Shared;
use crate::engine::request::{AdapterChoice, ImageInput};
use crate::engine::stats::set;
use crate::error::{LoadError, RequestError};

/// What a request asks for, by names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AdapterKey {
    /// Names and bits of the weights.
    parts: Vec<(String, u64)>,
    /// Digest of the image.
    image: Option<[u8; 32]>,
}

impl AdapterKey {
    /// `None` for the base model.
    pub(crate) fn new(choice: &AdapterChoice, image: Option<&ImageInput>) -> Option<Self> {
        let parts = match choice {
            AdapterChoice::Base => return None,
            AdapterChoice::Named(name) => vec![(name.clone(), 1_f64.to_bits())],
            AdapterChoice::Mix(parts) => {
                let mut parts = parts
                    .iter()
                    .map(|(name, weight)| (name.clone(), weight.to_bits()))
                    .collect::<Vec<_>>();
                // The same mix in another order is the same adapter, to the last bit.
                parts.sort();
                parts
            }
        };
        Some(Self { parts, image: image.map(ImageInput::digest) })
    }

    /// The names, joined by `+`.
    pub(crate) fn name(&self) -> String {
        let names = self.parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        names.join("+")
    }

    /// The name if this is nothing but one adapter.
    fn plain(&self) -> Option<&str> {
        match (&self.parts[..], self.image) {
            ([(name, weight)], None) if *weight == 1_f64.to_bits() => Some(name),
            _ => None,
        }
    }
}

/// All prepared adapters of an engine, shared by its thread and the loader.
pub(crate) struct AdapterStore<L: AdapterLoader> {
    shared: Arc<Shared>,
    limit: usize,
    /// How long a look at an adapter's files is believed.
    believed: Duration,
    kept: Mutex<Kept<L>>,
}

struct Kept<L: AdapterLoader> {
    named: HashMap<String, Named<L>>,
    combined: HashMap<Combination, Combined<L>>,
    last_id: u64,
    clock: u64,
}

/// An adapter by name.
struct Named<L: AdapterLoader> {
    instance: Arc<Instance<L::Prepared>>,
    weights: L::Weights,
    sees_images: bool,
    /// Which of the adapters of this name it is.
    entry: u64,
    stamp: Stamp,
    checked: Instant,
    used: u64,
}

/// Instances that were combined, with the bits of their weights, and the image.
type Combination = (Vec<(u64, u64)>, Option<[u8; 32]>);

/// A mix, or an adapter with an image.
struct Combined<L: AdapterLoader> {
    instance: Arc<Instance<L::Prepared>>,
    used: u64,
}

impl<L: AdapterLoader> AdapterStore<L> {
    pub(crate) fn new(shared: Arc<Shared>, limit: usize, believed: Duration) -> Self {
        let kept = Kept { named: HashMap::new(), combined: HashMap::new(), last_id: 0, clock: 0 };
        Self { shared, limit, believed, kept: Mutex::new(kept) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<L>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adapter, if it is in memory and its files have not changed.
    pub(crate) fn find(&self, key: &AdapterKey) -> Option<Arc<Instance<L::Prepared>>> {
        let mut kept = self.kept();
        let kept = &mut *kept;
        kept.clock += 1;
        let mut ids = Vec::new();
        for (name, weight) in &key.parts {
            let entry = self.shared.registry.get(name)?;
            let named = kept.named.get_mut(name)?;
            if !named.is_current(&entry, self.believed) {
                return None;
            }
            named.used = kept.clock;
            ids.push((named.instance.id, *weight));
        }
        if let Some(name) = key.plain() {
            return Some(Arc::clone(&kept.named[name].instance));
        }
        let combined = kept.combined.get_mut(&(ids, key.image))?;
        combined.used = kept.clock;
        Some(Arc::clone(&combined.instance))
    }

    /// Loads and prepares what is missing. Slow: not for the engine's thread, where there is another.
    ///
    /// # Errors
    /// [`RequestError::Adapter`], [`RequestError::NotMultimodal`]
    pub(crate) fn prepare(
        &self,
        key: &AdapterKey,
        image: Option<&ImageInput>,
        loader: &mut L,
    ) -> Result<Arc<Instance<L::Prepared>>, RequestError> {
        let failed = |name: &str, source: LoadError| RequestError::Adapter {
            name: name.into(),
            source: Arc::new(source),
        };
        let mut ids = Vec::new();
        let mut parts = Vec::new();
        let mut sees_images = false;
        for (name, weight) in &key.parts {
            let part = self.named(name, loader).map_err(|error| failed(name, error))?;
            sees_images |= part.sees_images;
            if key.plain().is_some() {
                return Ok(part.instance);
            }
            ids.push((part.instance.id, *weight));
            parts.push((part.weights, f64::from_bits(*weight)));
        }
        if image.is_some() && !sees_images {
            return Err(RequestError::NotMultimodal(key.name()));
        }
        let combination = (ids, key.image);
        if let Some(known) = self.kept().combined.get(&combination) {
            return Ok(Arc::clone(&known.instance));
        }
        let prepared = loader.prepare(&parts, image);
        let (prepared, bytes) = prepared.map_err(|error| failed(&key.name(), error))?;
        let mut kept = self.kept();
        let instance = kept.instance(prepared, bytes);
        let used = kept.clock;
        let combined = Combined { instance: Arc::clone(&instance), used };
        kept.combined.insert(combination, combined);
        self.drop_unused(&mut kept);
        Ok(instance)
    }

    /// Loads an adapter and adds it to those that can be asked for.
    ///
    /// # Errors
    /// [`LoadError`]
    pub(crate) fn add(
        &self,
        source: &AdapterSource,
        loader: &mut L,
    ) -> Result<AdapterInfo, LoadError> {
        source.check_name()?;
        let registry = &self.shared.registry;
        if registry.get(&source.name).is_some() {
            return Err(LoadError::NameTaken(source.name.clone()));
        }
        let (stamp, loaded, prepared) = self.load(source, loader)?;
        registry.add(source.clone(), Facts::default())?;
        let entry = registry.get(&source.name).ok_or(LoadError::Unknown(source.name.clone()))?;
        self.keep(&entry, stamp, loaded, prepared);
        Ok(registry.get(&source.name).unwrap_or(entry).info())
    }

    /// Adds an adapter that is loaded when somebody asks for it.
    ///
    /// # Errors
    /// [`LoadError::Name`], [`LoadError::NameTaken`]
    pub(crate) fn add_later(&self, source: &AdapterSource) -> Result<(), LoadError> {
        self.shared.registry.add(source.clone(), Facts::default())
    }

    /// Whether adapters take all the memory that they may.
    pub(crate) fn is_full(&self) -> bool {
        self.kept().bytes() >= self.limit
    }

    /// Drops what is in memory of adapters that were removed.
    pub(crate) fn drop_removed(&self) {
        let mut kept = self.kept();
        let registry = &self.shared.registry;
        let is_there = |name: &str, own: &Named<L>| {
            registry.get(name).is_some_and(|entry| entry.number == own.entry)
        };
        kept.named.retain(|name, own| is_there(name, own));
        kept.drop_orphans();
        self.update_gauges(&kept);
    }

    /// An adapter by name, from memory or from its files.
    fn named(&self, name: &str, loader: &mut L) -> Result<Part<L>, LoadError> {
        let registry = &self.shared.registry;
        let entry = registry.get(name).ok_or_else(|| LoadError::Unknown(name.into()))?;
        if let Some(own) = self.kept().named.get_mut(name)
            && own.is_current(&entry, self.believed)
        {
            return Ok(own.part());
        }
        match self.load(&entry.source, loader) {
            Ok((stamp, loaded, prepared)) => Ok(self.keep(&entry, stamp, loaded, prepared)),
            Err(error) => {
                registry.update(name, |facts| facts.broken = Some(error.to_string()));
                Err(error)
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "used twice, right here")]
    fn load(
        &self,
        source: &AdapterSource,
        loader: &mut L,
    ) -> Result<(Stamp, Loaded<L::Weights>, (L::Prepared, usize)), LoadError> {
        // Taken before: a change while the files are read is then found by the next look.
        let stamp = Stamp::of(&source.location);
        let loaded = loader.load(source)?;
        let (prepared, bytes) = loader.prepare(&[(loaded.weights.clone(), 1.0)], None)?;
        let bytes = bytes + loaded.bytes;
        if bytes > self.limit {
            return Err(LoadError::TooLarge { bytes, limit: self.limit });
        }
        Ok((stamp, loaded, (prepared, bytes)))
    }

    fn keep(
        &self,
        entry: &Entry,
        stamp: Stamp,
        loaded: Loaded<L::Weights>,
        (prepared, bytes): (L::Prepared, usize),
    ) -> Part<L> {
        let Loaded { weights, sees_images, .. } = loaded;
        let mut kept = self.kept();
        let instance = kept.instance(prepared, bytes);
        let (checked, used) = (Instant::now(), kept.clock);
        let named =
            Named { instance, weights, sees_images, entry: entry.number, stamp, checked, used };
        let part = named.part();
        let name = &entry.source.name;
        // The adapter may have been removed while it was loaded.
        if self.shared.registry.get(name).is_some_and(|now| now.number == entry.number) {
            self.shared.registry.update(name, |facts| {
                *facts = Facts {
                    loaded: true,
                    bytes: Some(bytes),
                    sees_images: Some(sees_images),
                    broken: None,
                };
            });
            kept.named.insert(name.clone(), named);
            kept.drop_orphans();
            self.drop_unused(&mut kept);
        }
        part
    }

    /// Drops the least recently used adapters that no row has, until the rest is within the bound.
    fn drop_unused(&self, kept: &mut Kept<L>) {
        while kept.bytes() > self.limit {
            let named = kept.named.iter().filter(|(_, own)| is_unused(&own.instance));
            let named = named.map(|(name, own)| (own.used, Some(name.clone()), None));
            let combined = kept.combined.iter().filter(|(_, own)| is_unused(&own.instance));
            let combined = combined.map(|(key, own)| (own.used, None, Some(key.clone())));
            let Some(oldest) = named.chain(combined).min_by_key(|(used, ..)| *used) else { break };
            if let (_, Some(name), _) = &oldest {
                kept.named.remove(name);
                self.shared.registry.update(name, |facts| facts.loaded = false);
                kept.drop_orphans();
            }
            if let (.., Some(key)) = &oldest {
                kept.combined.remove(key);
            }
        }
        self.update_gauges(kept);
    }

    fn update_gauges(&self, kept: &Kept<L>) {
        set(&self.shared.stats.adapters, kept.named.len() + kept.combined.len());
        set(&self.shared.stats.adapter_bytes, kept.bytes());
    }
}

/// Whether nobody has it but the store.
fn is_unused<P>(instance: &Arc<Instance<P>>) -> bool {
    Arc::strong_count(instance) == 1
}

/// What combinations are made of.
struct Part<L: AdapterLoader> {
    instance: Arc<Instance<L::Prepared>>,
    weights: L::Weights,
    sees_images: bool,
}

impl<L: AdapterLoader> Named<L> {
    fn part(&self) -> Part<L> {
        Part {
            instance: Arc::clone(&self.instance),
            weights: self.weights.clone(),
            sees_images: self.sees_images,
        }
    }

    /// Whether it is still what the name means.
    fn is_current(&mut self, entry: &Entry, believed: Duration) -> bool {
        if self.entry != entry.number {
            return false;
        }
        if self.checked.elapsed() < believed {
            return true;
        }
        // Files that have changed are not looked at again later: the loader, too, must find that out.
        let is_unchanged = self.stamp == Stamp::of(&entry.source.location);
        if is_unchanged {
            self.checked = Instant::now();
        }
        is_unchanged
    }
}

impl<L: AdapterLoader> Kept<L> {
    fn instance(&mut self, prepared: L::Prepared, bytes: usize) -> Arc<Instance<L::Prepared>> {
        self.clock += 1;
        self.last_id += 1;
        Arc::new(Instance { id: self.last_id, prepared, bytes })
    }

    fn bytes(&self) -> usize {
        let named = self.named.values().map(|own| own.instance.bytes);
        named.chain(self.combined.values().map(|own| own.instance.bytes)).sum()
    }

    /// Drops combinations of instances that are not here any more: nothing finds them.
    fn drop_orphans(&mut self) {
        let known = |id: u64| self.named.values().any(|own| own.instance.id == id);
        self.combined.retain(|(ids, _), _| ids.iter().all(|(id, _)| known(*id)));
    }
}
