//! Adapters on a device from and to files, with a check of the base model.

use std::borrow::Cow;
use std::path::Path;

use burn::tensor::Device;
use llama::Llama;
use llama::fingerprint::Fingerprint;
use text::PromptFormat;

use super::format::{AdapterReadOptions, read, read_for_summary};
use super::locate::resolve_path;
use super::native::{is_mix_error, read_mix, write_folder, write_mix};
use crate::adapter::data::AdapterData;
use crate::adapter::mix::{AdapterMix, AnyAdapter, MixComponent};
use crate::adapter::set::AdapterSet;
use crate::adapter::summary::AdapterSummary;
use crate::adapter::weights::AdapterWeights;
use crate::base::BaseInfo;
use crate::error::{Error, Result};

/// What an adapter's fingerprint of its base is compared with.
#[derive(Clone, Copy)]
enum BaseCheck<'a> {
    /// The model's fingerprint, computed if it is needed.
    Model,
    /// A known fingerprint of the model.
    Fingerprint(&'a Fingerprint),
    /// Nothing.
    None,
}

/// Everything that is known of a loaded model.
fn base_info(llama: &Llama, name: &str) -> Result<BaseInfo> {
    let fingerprint = Some(llama.fingerprint()?);
    Ok(BaseInfo { fingerprint, ..BaseInfo::from_config(llama.config(), Some(name.into())) })
}

impl AdapterWeights {
    /// Writes the adapter into `folder`, which is created if it does not exist: PEFT's two files and
    /// `llama_adapter.json`. `base` is the name of the base model.
    ///
    /// # Errors
    /// [`Error::File`], existing files stay unchanged; [`llama::Error::Device`].
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        self.save_with_prompt(folder, llama, base, &PromptFormat::default())
    }

    /// As [`save`](Self::save), with the prompt format that the adapter was trained with.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_with_prompt(
        &self,
        folder: &Path,
        llama: &Llama,
        base: &str,
        prompt: &PromptFormat,
    ) -> Result<()> {
        let data = self.to_data(base_info(llama, base)?)?;
        write_folder(&AdapterData { prompt_format: Some(prompt.clone()), ..data }, folder)
    }

    /// Reads a single adapter of any [`Format`](super::Format) for its base model.
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
    /// Writes the adapter into `folder`. A mix has a subfolder for each component.
    ///
    /// # Errors
    /// As [`AdapterWeights::save`] and [`write_mix`].
    pub fn save(&self, folder: &Path, llama: &Llama, base: &str) -> Result<()> {
        let mix = match self {
            Self::Single(adapter) => return adapter.save(folder, llama, base),
            Self::Mix(mix) => mix,
        };
        let info = base_info(llama, base)?;
        let data = |own: &MixComponent| {
            Ok((own.name.clone(), own.weight, own.adapter.to_data(info.clone())?))
        };
        write_mix(&mix.components.iter().map(data).collect::<Result<Vec<_>>>()?, folder)
    }

    /// Reads an adapter of any [`Format`](super::Format), or a mix, for its base model.
    ///
    /// # Errors
    /// As [`read`] and [`AdapterWeights::from_data`]; [`Error::BaseMismatch`] if the fingerprint of the
    /// model is not that of the adapter's base.
    pub fn load(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, BaseCheck::Model)
    }

    /// As [`load`](Self::load), with the model's fingerprint: programs that load many adapters compute it
    /// once.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_for(
        folder: &Path,
        llama: &Llama,
        device: &Device,
        fingerprint: &Fingerprint,
    ) -> Result<Self> {
        Self::load_with(folder, llama, device, BaseCheck::Fingerprint(fingerprint))
    }

    /// As [`load`](Self::load), for any model of the same sizes.
    ///
    /// # Errors
    /// As [`load`](Self::load), except [`Error::BaseMismatch`].
    pub fn load_unchecked(folder: &Path, llama: &Llama, device: &Device) -> Result<Self> {
        Self::load_with(folder, llama, device, BaseCheck::None)
    }

    fn load_with(path: &Path, llama: &Llama, device: &Device, check: BaseCheck) -> Result<Self> {
        let folder = &resolve_path(path);
        // Computed once for all components of a mix, and only if a file has a fingerprint.
        let mut fingerprint = match check {
            BaseCheck::Fingerprint(known) => Some(Cow::Borrowed(known)),
            BaseCheck::Model | BaseCheck::None => None,
        };
        let is_checked = !matches!(check, BaseCheck::None);
        let mut weights = |data: AdapterData, folder: &Path| {
            if let (true, Some(expected)) = (is_checked, &data.base.fingerprint) {
                let actual = match fingerprint.take() {
                    Some(known) => known,
                    None => Cow::Owned(llama.fingerprint()?),
                };
                let differences = expected.differences(fingerprint.insert(actual));
                if !differences.is_empty() {
                    let base = data.base.name.clone();
                    return Err(Error::BaseMismatch { path: folder.into(), base, differences });
                }
            }
            AdapterWeights::from_data(&data, &llama.config().into(), folder, device)
        };
        let Some(mix) = read_mix(folder)? else {
            let base = BaseInfo::from_config(llama.config(), None);
            let options = AdapterReadOptions { base, ..AdapterReadOptions::default() };
            return Ok(Self::Single(weights(read(folder, &options)?, folder)?));
        };
        let components = mix.into_iter().map(|(name, weight, data)| {
            let adapter = weights(data, &folder.join(&name))?;
            Ok(MixComponent { name, weight, adapter })
        });
        Ok(Self::Mix(AdapterMix { components: components.collect::<Result<Vec<_>>>()? }))
    }
}

impl AdapterSet<'_> {
    /// Reads an adapter and adds it, as [`AnyAdapter::load`] and [`add`](Self::add).
    ///
    /// # Errors
    /// As [`AnyAdapter::load`], and [`Error::NameTaken`].
    pub fn load(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.check_name_is_free(name)?;
        let llama = self.llama();
        self.add(name, AnyAdapter::load(folder, llama, &llama.device())?)
    }

    /// Writes an adapter into a folder, whether it is active or not.
    ///
    /// # Errors
    /// [`Error::NoSuchAdapter`], [`Error::File`].
    pub fn save(&self, name: &str, folder: &Path, base: &str) -> Result<()> {
        self.get(name)?.save(folder, self.llama(), base)
    }
}

impl AdapterSummary {
    /// Summarizes an adapter of any [`Format`](super::Format), without its base model.
    ///
    /// # Errors
    /// As [`read`], except [`Error::MissingBaseInfo`].
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::from_data(&read_for_summary(path)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peft_adapter_is_summarized() {
        let folder = testing::golden_folder().join("llama-gqa-tied/adapter");
        let summary = AdapterSummary::read(&folder).unwrap();
        let prompts = summary.prompts.unwrap();
        assert_eq!((prompts.adapter_len, prompts.d_model), (5, 32));
        let layers = prompts.layers.iter().map(|layer| layer.layer);
        assert_eq!(layers.collect::<Vec<_>>(), [1, 2]);
        assert_eq!(summary.n_parameters, 2 * (5 * 32 + 1));
        assert!(prompts.layers.iter().all(|layer| layer.gates.iter().all(|&gate| gate != 0.0)));
    }

    #[test]
    fn folder_without_tensors_is_not_an_adapter() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(AdapterSummary::read(folder.path()), Err(Error::NotAnAdapter { .. })));
    }
}
