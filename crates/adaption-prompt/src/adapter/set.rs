//! Named adapters of one base model, one of which is active.

use burn::tensor::Device;
use llama::Llama;
use serde::Serialize;

use super::mix::AnyAdapter;
use super::prepared::PreparedAdapter;
use super::row_adapters::RowAdapters;
use crate::error::{Error, Result};
use crate::parts::PartKind;

/// Named adapters of one base model.
///
/// The base is never modified: an adapter takes part in a forward pass because its [`PreparedAdapter`] is
/// an argument. So the base gives the same results, bit for bit, whatever adapters were active, disabled or
/// removed.
///
/// ```
/// # use adaption_prompt::{AdaptedLayers, AdapterConfig, AdapterSet, AdaptionPromptConfig};
/// # let device = device::parse("flex")?;
/// # let folder = testing::golden_folder().join("llama-gqa-tied/base");
/// # let llama = llama::ModelSource::open(folder)?.load(llama::Precision::F32, &device)?;
/// let config = AdapterConfig::from(AdaptionPromptConfig {
///     layers: AdaptedLayers::Last(2),
///     ..Default::default()
/// });
/// let mut adapters = AdapterSet::new(&llama);
/// adapters.add("polite", config.init(&llama, 0, &device)?)?;
/// adapters.add("brief", config.init(&llama, 1, &device)?)?;
/// assert_eq!(adapters.active(), Some("brief"));
///
/// // The active adapter, a named one, or one for each row of a batch.
/// let tokens = llama.tokens(&[vec![1, 2], vec![3, 4]])?;
/// llama.forward(tokens.clone(), None, &adapters.active_or_base())?;
/// llama.forward(tokens.clone(), None, adapters.prepared("polite")?)?;
/// llama.forward(tokens, None, &adapters.row_adapters(&[Some("polite"), None])?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdapterSet<'a> {
    llama: &'a Llama,
    entries: Vec<NamedAdapter>,
    active: Option<String>,
    enabled: bool,
}

#[derive(Debug, Clone)]
struct NamedAdapter {
    name: String,
    adapter: AnyAdapter,
    prepared: PreparedAdapter,
}

/// Status of one adapter of a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AdapterStatus {
    /// Name.
    pub name: String,
    /// Whether it is the active adapter, enabled or not.
    pub active: bool,
    /// Names of its parts: `prompts`, `v2`, `lora`, `image`.
    pub parts: Vec<&'static str>,
    /// Layers with prompts, in ascending order.
    pub layers: Vec<usize>,
    /// Prompt tokens per layer, the largest number in a mix; 0 without prompts.
    pub adapter_len: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// Device of the weights.
    pub device: String,
    /// Data type of the weights.
    pub precision: &'static str,
    /// Whether the weights are on an autodiff device.
    pub trainable: bool,
}

impl<'a> AdapterSet<'a> {
    /// A set without adapters.
    pub fn new(llama: &'a Llama) -> Self {
        Self { llama, entries: Vec::new(), active: None, enabled: true }
    }

    /// The base model.
    pub(crate) fn llama(&self) -> &'a Llama {
        self.llama
    }

    /// Adds an adapter and makes it the active one.
    ///
    /// While adapters are disabled, it becomes active without taking effect.
    ///
    /// # Errors
    /// [`Error::NameTaken`]
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn add(&mut self, name: &str, adapter: impl Into<AnyAdapter>) -> Result<()> {
        self.check_name_is_free(name)?;
        let adapter = adapter.into();
        let prepared = adapter.prepare(self.llama);
        self.entries.push(NamedAdapter { name: name.into(), adapter, prepared });
        self.active = Some(name.into());
        Ok(())
    }

    /// Makes another adapter the active one.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn activate(&mut self, name: &str) -> Result<()> {
        self.active = Some(self.entry(name)?.name.clone());
        Ok(())
    }

    /// Name of the active adapter, also while adapters are disabled.
    pub fn active(&self) -> Option<&str> {
        self.active.as_deref()
    }

    /// Whether the active adapter takes effect.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Makes [`active_or_base`](Self::active_or_base) the base model. Idempotent.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// Makes [`active_or_base`](Self::active_or_base) the active adapter. Idempotent.
    pub fn enable(&mut self) {
        self.enabled = true;
    }

    /// Runs `action` with adapters disabled, and restores the previous state afterwards, also after a
    /// panic.
    pub fn with_disabled<R>(&mut self, action: impl FnOnce(&mut Self) -> R) -> R {
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
        action(&mut *restore.adapters)
    }

    /// Removes an adapter. If it was active, no adapter is active afterwards.
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

    /// Renames an adapter.
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

    /// Status of every adapter, in the order in which they were added.
    pub fn statuses(&self) -> Vec<AdapterStatus> {
        self.entries.iter().map(|entry| entry.status(self.active())).collect()
    }

    /// An adapter by name.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn get(&self, name: &str) -> Result<&AnyAdapter> {
        Ok(&self.entry(name)?.adapter)
    }

    /// The active adapter, or the base model if none is active or adapters are disabled.
    ///
    /// The result does not change when another adapter is activated.
    pub fn active_or_base(&self) -> PreparedAdapter {
        let active = self.active.as_deref().filter(|_| self.enabled);
        active.and_then(|name| self.prepared(name).ok()).cloned().unwrap_or_default()
    }

    /// A prepared adapter by name, active or not.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn prepared(&self, name: &str) -> Result<&PreparedAdapter> {
        Ok(&self.entry(name)?.prepared)
    }

    /// An adapter for each row of a batch; `None` for the base model.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`]
    pub fn row_adapters(&self, names: &[Option<&str>]) -> Result<RowAdapters> {
        let rows = names.iter().map(|name| name.map(|name| self.prepared(name)).transpose());
        Ok(RowAdapters::new(&rows.collect::<Result<Vec<_>>>()?))
    }

    /// # Errors
    /// [`Error::NameTaken`]
    pub(crate) fn check_name_is_free(&self, name: &str) -> Result<()> {
        if self.entries.iter().any(|entry| entry.name == name) {
            return Err(Error::NameTaken { name: name.into() });
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.entries.iter().position(|entry| entry.name == name).ok_or_else(|| {
            Error::NoSuchAdapter {
                name: name.into(),
                available: self.entries.iter().map(|entry| entry.name.clone()).collect(),
            }
        })
    }

    fn entry(&self, name: &str) -> Result<&NamedAdapter> {
        Ok(&self.entries[self.position(name)?])
    }
}

impl NamedAdapter {
    fn status(&self, active: Option<&str>) -> AdapterStatus {
        let components = self.adapter.components();
        let kinds = components.iter().flat_map(|own| own.kinds()).collect::<Vec<_>>();
        let kinds = PartKind::ALL.iter().filter(|kind| kinds.contains(kind));
        let parts = components.iter().flat_map(|own| own.parts());
        let prompts = parts.filter_map(|(_, part)| part.prompt_shape()).collect::<Vec<_>>();
        let mut layers =
            prompts.iter().flat_map(|own| own.layers.iter().copied()).collect::<Vec<_>>();
        layers.sort_unstable();
        layers.dedup();
        let device: Device = components.first().map(|own| own.device()).unwrap_or_default();
        AdapterStatus {
            name: self.name.clone(),
            active: active == Some(&self.name),
            parts: kinds.map(|kind| kind.name()).collect(),
            layers,
            adapter_len: prompts.iter().map(|own| own.adapter_len).max().unwrap_or(0),
            parameters: components.iter().map(|own| own.n_parameters()).sum(),
            trainable: device.is_autodiff(),
            device: format!("{:?}", device.without_autodiff()),
            precision: "f32",
        }
    }
}
