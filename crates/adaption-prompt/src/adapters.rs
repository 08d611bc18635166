//! Several named adapters on one base: which there are, which one is in use.

use std::path::Path;

use burn::tensor::Device;
use llama::Llama;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::mix::AnyAdapter;
use crate::prepared::PreparedAdapter;
use crate::rows::RowAdapters;

/// Named adapters on one base.
///
/// The base is never changed: an adapter joins a pass because its [`Prepared`] form was handed to
/// it. So switching, disabling and removing leave the base's numbers as they were, bit for bit.
///
/// ```
/// # use adaption_prompt::{AdapterConfig, Adapters, AdaptionPromptConfig, Layers};
/// # let device = device::parse("flex")?;
/// # let folder = testing::golden_folder().join("llama-gqa-tied/base");
/// # let llama = llama::ModelSource::open(folder)?.load(llama::Precision::F32, &device)?;
/// let config = AdapterConfig::from(AdaptionPromptConfig {
///     layers: Layers::Last(2),
///     ..Default::default()
/// });
/// let mut adapters = Adapters::new(&llama);
/// adapters.add("polite", config.init(&llama, 0, &device)?)?;
/// adapters.add("brief", config.init(&llama, 1, &device)?)?;
/// assert_eq!(adapters.active(), Some("brief"));
///
/// // In use: the active one, a named one, or one for each row of a batch.
/// let tokens = llama.tokens(&[vec![1, 2], vec![3, 4]])?;
/// llama.forward(tokens.clone(), None, &adapters.current())?;
/// llama.forward(tokens.clone(), None, adapters.named("polite")?)?;
/// llama.forward(tokens, None, &adapters.rows(&[Some("polite"), None])?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdapterSet<'a> {
    llama: &'a Llama,
    entries: Vec<Entry>,
    active: Option<String>,
    enabled: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    adapter: AnyAdapter,
    prepared: PreparedAdapter,
}

/// What there is to know of one of several adapters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterStatus {
    /// Its name.
    pub name: String,
    /// Whether [`Adapters::current`] gives it, unless adapters are disabled.
    pub active: bool,
    /// What it is made of: `prompts`, `v2`, `lora`, `image`.
    pub parts: Vec<&'static str>,
    /// Layers with prompts, in rising order.
    pub layers: Vec<usize>,
    /// Prompt tokens of a layer; the most of a mix's; 0 without prompts.
    pub adapter_len: usize,
    /// Numbers in it.
    pub parameters: usize,
    /// Where they are.
    pub device: String,
    /// Precision they are kept in.
    pub precision: &'static str,
    /// Whether they are on an autodiff device.
    pub trainable: bool,
}

impl<'a> AdapterSet<'a> {
    /// No adapters yet.
    pub fn new(llama: &'a Llama) -> Self {
        Self { llama, entries: Vec::new(), active: None, enabled: true }
    }

    /// Adds an adapter and makes it the active one.
    ///
    /// While adapters are disabled it becomes active without taking effect.
    ///
    /// # Errors
    /// [`Error::NameTaken`]
    ///
    /// # Panics
    /// If it was made for a model of other sizes.
    pub fn add(&mut self, name: &str, adapter: impl Into<AnyAdapter>) -> Result<()> {
        self.check_name_is_free(name)?;
        let adapter = adapter.into();
        let prepared = adapter.prepare(self.llama);
        self.entries.push(Entry { name: name.into(), adapter, prepared });
        self.active = Some(name.into());
        Ok(())
    }

    /// Reads an adapter from its folder and adds it, as [`AnyAdapter::load`] does.
    ///
    /// # Errors
    /// As [`AnyAdapter::load`], and [`Error::NameTaken`].
    pub fn load(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.check_name_is_free(name)?;
        let device: Device = self.llama.device();
        self.add(name, AnyAdapter::load(folder, self.llama, &device)?)
    }

    /// Writes an adapter into a folder, be it active or not.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`], [`Error::File`].
    pub fn save(&self, name: &str, folder: &Path, base: &str) -> Result<()> {
        self.entry(name)?.adapter.save(folder, self.llama, base)
    }

    /// Makes another adapter the active one.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn activate(&mut self, name: &str) -> Result<()> {
        self.active = Some(self.entry(name)?.name.clone());
        Ok(())
    }

    /// Name of the active adapter, whether or not adapters are disabled.
    pub fn active(&self) -> Option<&str> {
        self.active.as_deref()
    }

    /// Whether the active adapter takes effect.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// From now on [`current`](Self::current) is the base. Doing it twice is doing it once.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// From now on [`current`](Self::current) is the active adapter. Doing it twice is doing it
    /// once.
    pub fn enable(&mut self) {
        self.enabled = true;
    }

    /// Runs `work` with adapters disabled, and leaves them as they were, even if it panics.
    pub fn with_disabled<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        struct Restore<'b, 'a> {
            adapters: &'b mut AdapterSet<'a>,
            enabled: bool,
        }
        impl Drop for Restore<'_, '_> {
            fn drop(&mut self) {
                self.adapters.enabled = self.enabled;
            }
        }
        let restore = Restore { enabled: self.enabled, adapters: self };
        restore.adapters.disable();
        work(&mut *restore.adapters)
    }

    /// Takes an adapter out. If it was active, none is then.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn remove(&mut self, name: &str) -> Result<AnyAdapter> {
        let index = self.position(name)?;
        if self.active() == Some(name) {
            self.active = None;
        }
        Ok(self.entries.remove(index).adapter)
    }

    /// Gives an adapter another name.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`], [`Error::NameTaken`].
    pub fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        let index = self.position(name)?;
        if name == to {
            return Ok(());
        }
        self.check_name_is_free(to)?;
        if self.active() == Some(name) {
            self.active = Some(to.into());
        }
        self.entries[index].name = to.into();
        Ok(())
    }

    /// Every adapter, in the order in which they were added.
    pub fn statuses(&self) -> Vec<AdapterStatus> {
        self.entries.iter().map(|entry| entry.status(self.active())).collect()
    }

    /// An adapter itself.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn get(&self, name: &str) -> Result<&AnyAdapter> {
        Ok(&self.entry(name)?.adapter)
    }

    /// What takes effect now: the active adapter, or the base.
    ///
    /// It stays what it is when another adapter is activated later.
    pub fn active_or_base(&self) -> PreparedAdapter {
        let active = self.active.as_deref().filter(|_| self.enabled);
        active.and_then(|name| self.prepared(name).ok()).cloned().unwrap_or_default()
    }

    /// An adapter by its name, active or not.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn prepared(&self, name: &str) -> Result<&PreparedAdapter> {
        Ok(&self.entry(name)?.prepared)
    }

    /// One adapter for each row of a batch, `None` for the base.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn row_adapters(&self, names: &[Option<&str>]) -> Result<RowAdapters> {
        let rows = names.iter().map(|name| name.map(|name| self.prepared(name)).transpose());
        Ok(RowAdapters::new(&rows.collect::<Result<Vec<_>>>()?))
    }

    fn check_name_is_free(&self, name: &str) -> Result<()> {
        if self.entries.iter().any(|entry| entry.name == name) {
            return Err(Error::NameTaken { name: name.into() });
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.entries.iter().position(|entry| entry.name == name).ok_or_else(|| {
            Error::NoSuchAdapter {
                name: name.into(),
                present: self.entries.iter().map(|entry| entry.name.clone()).collect(),
            }
        })
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        Ok(&self.entries[self.position(name)?])
    }
}

impl Entry {
    fn status(&self, active: Option<&str>) -> AdapterStatus {
        let adapters = self.adapter.components();
        let any =
            |has: &dyn Fn(&&&crate::AdapterWeights) -> bool| adapters.iter().find(has).is_some();
        let parts = [
            ("prompts", any(&|own| own.prompts.is_some())),
            ("v2", any(&|own| own.v2.is_some())),
            ("lora", any(&|own| own.lora.is_some())),
            ("image", any(&|own| own.image.is_some())),
        ];
        let prompts = adapters.iter().filter_map(|own| own.prompts.as_ref());
        let mut layers = prompts.clone().flat_map(|own| own.indices().to_vec()).collect::<Vec<_>>();
        layers.sort_unstable();
        layers.dedup();
        let device = adapters.first().map(|own| own.device()).unwrap_or_default();
        AdapterStatus {
            name: self.name.clone(),
            active: active == Some(&self.name),
            parts: parts.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect(),
            layers,
            adapter_len: prompts.map(|own| own.config().adapter_len).max().unwrap_or(0),
            parameters: adapters.iter().map(|own| own.n_parameters()).sum(),
            trainable: device.is_autodiff(),
            device: format!("{:?}", device.without_autodiff()),
            precision: "f32",
        }
    }
}
