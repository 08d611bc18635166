//! A fine-tuning method ─► its trainable weights, fresh or loaded.

use std::path::Path;

use adaption_prompt::{AdapterConfig, AdapterWeights};
use burn::tensor::Device;
use llama::{Llama, ModelSource, Precision, weights};
use serde::{Deserialize, Serialize};

use super::parameter_visitor::require_grad;
use super::trainable_weights::{TrainableWeights, with_feature_statistics};
use crate::error::{Error, Result};
use crate::images::FeatureStatistics;

/// What is fine-tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "a run has one of it")]
pub enum FineTuningMethod {
    /// An adapter; the model is frozen.
    Adapter(AdapterConfig),
    /// Every weight of the model.
    Full,
}

impl Default for FineTuningMethod {
    fn default() -> Self {
        Self::Adapter(AdapterConfig::default())
    }
}

impl<T: Into<AdapterConfig>> From<T> for FineTuningMethod {
    fn from(config: T) -> Self {
        Self::Adapter(config.into())
    }
}

impl FineTuningMethod {
    /// Checks that the method works with a model.
    ///
    /// # Errors
    /// [`Error::Adapter`] for an adapter that does not fit the model, [`Error::Config`] for a
    /// precision that cannot be trained, [`Error::Model`] for a model that cannot be saved.
    pub fn validate(&self, llama: &Llama) -> Result<()> {
        self.check_precision(llama.precision())?;
        match self {
            Self::Adapter(config) => Ok(config.validate(&llama.config().into())?),
            // Fails before the training instead of after it.
            Self::Full => Ok(weights::huggingface::check_saveable(llama.config())?),
        }
    }

    /// Checks that the method works with a base in this precision.
    ///
    /// # Errors
    /// [`Error::Config`]: the weights of a whole model are trained in f32 only.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        if matches!(self, Self::Full) && precision != Precision::F32 {
            return Err(Error::Config {
                field: "the base's precision",
                found: precision.to_string(),
                expected: "f32: all weights of the model are trained",
            });
        }
        Ok(())
    }

    /// Fresh trainable weights on the autodiff device of the model.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, llama: &Llama, seed: u64) -> Result<TrainableWeights> {
        self.validate(llama)?;
        match self {
            Self::Adapter(config) => {
                let adapter = config.init(llama, seed, &llama.device().autodiff())?;
                Ok(TrainableWeights::Adapter(adapter))
            }
            Self::Full => Ok(TrainableWeights::Full(require_grad(llama.clone().into_parameters()))),
        }
    }

    /// Trainable weights that start from a saved adapter. Parts of the method that the adapter lacks
    /// are fresh; `statistics` initializes a fresh image part.
    ///
    /// # Errors
    /// As [`init`](Self::init) and [`AdapterWeights::load`]; [`Error::Config`] for
    /// [`FineTuningMethod::Full`].
    pub fn init_from_adapter(
        &self,
        path: &Path,
        llama: &Llama,
        seed: u64,
        statistics: Option<&FeatureStatistics>,
    ) -> Result<TrainableWeights> {
        let Self::Adapter(config) = self else {
            return Err(Error::Config {
                field: "the initial adapter",
                found: path.display().to_string(),
                expected: "none: the whole model is trained",
            });
        };
        let device = llama.device().autodiff();
        let loaded = AdapterWeights::load(path, llama, &device)?;
        let config = loaded.config().or(config.clone());
        let fresh = with_feature_statistics(config.init(llama, seed, &device)?, statistics);
        Ok(TrainableWeights::Adapter(loaded.or(fresh)))
    }
}

impl TrainableWeights {
    /// Loads what [`save`](Self::save) saved for a method, on the device of the model.
    ///
    /// # Errors
    /// [`Error::Adapter`], [`Error::Model`].
    pub fn load(folder: &Path, method: &FineTuningMethod, base: &Llama) -> Result<Self> {
        let device: Device = base.device();
        match method {
            FineTuningMethod::Adapter(_) => {
                Ok(Self::Adapter(AdapterWeights::load(folder, base, &device)?))
            }
            FineTuningMethod::Full => {
                let model = ModelSource::open(folder)?.load(Precision::F32, &device)?;
                Ok(Self::Full(model.into_parameters()))
            }
        }
    }
}
