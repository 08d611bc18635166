//! Adapters on a device ⇄ files, with a look at the base.

use std::path::Path;

use burn::tensor::Device;
use llama::Llama;

use super::find::resolve_path;
use super::folder::{is_mix_error, read_mix, write_folder, write_mix};
use super::format::{AdapterReadOptions, read};
use crate::data::{AdapterData, BaseInfo};
use crate::error::{Error, Result};
use crate::mix::{AdapterMix, AnyAdapter, MixComponent};
use crate::weights::AdapterWeights;

/// What is known of a model that is at hand.
fn base_info(llama: &Llama, name: &str) -> Result<BaseInfo> {
    let fingerprint = Some(llama.fingerprint()?);
    Ok(BaseInfo { fingerprint, ..BaseInfo::from_config(llama.config(), Some(name.into())) })
}

impl AdapterWeights {
    /// Writes the adapter's files into `folder`, which is made if need be: PEFT's two, and
    /// `llama_adapter.json`. `base` is what the model shall be called.
    ///
    /// # Errors
    /// [`Error::File`]; files that were there stay whole. [`llama::Error::Device`].
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        write_folder(&self.to_data(base_info(llama, base)?)?, folder)
    }

    /// Reads a single adapter of any [`Format`](super::Format), for the model it was made for.
    ///
    /// # Errors
    /// As [`AnyAdapter::load`], and [`Error::IsMix`].
    pub fn load(path: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        match AnyAdapter::load(path, llama, device)? {
            AnyAdapter::Single(adapter) => Ok(adapter),
            AnyAdapter::Mix(_) => Err(is_mix_error(path)),
        }
    }
}

impl AnyAdapter {
    /// Writes the adapter into `folder`; a mix gets a folder in it for each of its parts.
    ///
    /// # Errors
    /// As [`AdapterWeights::save`] and [`write_mix`].
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        let mix = match self {
            Self::Single(adapter) => return adapter.save(folder, llama, base),
            Self::Mix(mix) => mix,
        };
        let info = base_info(llama, base)?;
        let data = |part: &MixComponent| {
            Ok((part.name.clone(), part.weight, part.adapter.to_data(info.clone())?))
        };
        write_mix(&mix.components.iter().map(data).collect::<Result<Vec<_>>>()?, folder)
    }

    /// Reads an adapter of any [`Format`](super::Format), or a mix, for the model it was made for.
    ///
    /// # Errors
    /// As [`read`] and [`AdapterWeights::from_data`]; [`Error::BaseMismatch`] for a model with another
    /// fingerprint than the adapter's.
    pub fn load(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, true)
    }

    /// As [`load`](Self::load), on a model that may not be the one it was made for, if only its
    /// sizes fit.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for [`Error::BaseMismatch`].
    pub fn load_unchecked(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, false)
    }

    fn load_with(path: &Path, llama: &Llama, device: &Device, checked: bool) -> Result<Self> {
        let folder = &resolve_path(path);
        // Every part of a mix is held against the same one, which only some files ask for.
        let mut fingerprint = None;
        let mut weights = |data: AdapterData, folder: &Path| {
            if let (true, Some(made_for)) = (checked, &data.base.fingerprint) {
                let ours = match fingerprint.take() {
                    Some(known) => known,
                    None => llama.fingerprint()?,
                };
                let differences = made_for.differences(fingerprint.insert(ours));
                if !differences.is_empty() {
                    let base = data.base.name.clone();
                    return Err(Error::BaseMismatch { path: folder.into(), base, differences });
                }
            }
            AdapterWeights::from_data(&data, &llama.config().into(), folder, device)
        };
        let Some(mix) = read_mix(folder)? else {
            let base = BaseInfo::from_config(llama.config(), None);
            let hints = AdapterReadOptions { base, ..AdapterReadOptions::default() };
            return Ok(Self::Single(weights(read(folder, &hints)?, folder)?));
        };
        let parts = mix.into_iter().map(|(name, weight, data)| {
            let adapter = weights(data, &folder.join(&name))?;
            Ok(MixComponent { name, weight, adapter })
        });
        Ok(Self::Mix(AdapterMix { components: parts.collect::<Result<Vec<_>>>()? }))
    }
}
