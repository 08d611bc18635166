//! What learns: an adapter on a frozen model or, to compare with, the whole model.

use std::path::Path;

use adaption_prompt::{AdapterConfig, AdapterWeights, AdaptionPrompt, PartKind};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use llama::{Llama, ModelSource, NoAdapter, Precision, Tokenizer, read_back, weights};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::params::{self, Visit};
use crate::pictures::{BatchAdapter, FeatureStatistics, ImageFeatureCache, MultimodalAdapter};

/// Ways to fine-tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "a run has one of it")]
pub enum FineTuningMethod {
    /// The model stays as it is; an adapter learns.
    Adapter(AdapterConfig),
    /// Every weight of the model learns.
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

/// The numbers that training changes.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum TrainableWeights {
    /// An adapter.
    Adapter(AdapterWeights),
    /// A whole model.
    Full(Llama),
}

impl From<AdapterWeights> for TrainableWeights {
    fn from(adapter: AdapterWeights) -> Self {
        Self::Adapter(adapter)
    }
}

impl From<AdaptionPrompt> for TrainableWeights {
    fn from(prompts: AdaptionPrompt) -> Self {
        Self::Adapter(prompts.into())
    }
}

impl FineTuningMethod {
    /// Checks it against a model.
    ///
    /// # Errors
    /// [`Error::Adapter`], [`Error::Config`] for a model whose weights cannot learn, or
    /// [`Error::Model`] for one that could not be saved.
    pub fn validate(&self, llama: &Llama) -> Result<()> {
        match self {
            Self::Adapter(config) => Ok(config.validate(&llama.config().into())?),
            // Better before the training than behind it.
            Self::Full if llama.precision() == Precision::F32 => {
                Ok(weights::huggingface::check_saveable(llama.config())?)
            }
            Self::Full => Err(Error::Config {
                field: "the base's precision",
                found: llama.precision().to_string(),
                expected: "f32: all of the model's weights are to learn",
            }),
        }
    }

    /// What learns, at its start.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, llama: &Llama, seed: u64) -> Result<TrainableWeights> {
        self.validate(llama)?;
        match self {
            Self::Adapter(config) => Ok(TrainableWeights::Adapter(config.init(
                llama,
                seed,
                &llama.device().autodiff(),
            )?)),
            Self::Full => {
                Ok(TrainableWeights::Full(params::learning(llama.clone().into_parameters())))
            }
        }
    }
}

impl FineTuningMethod {
    /// What learns, starting from an adapter that was learned before: its parts as they are, those of
    /// the method that it lacks at their start, with the statistics of the pictures that they see.
    ///
    /// # Errors
    /// As [`init`](Self::init) and [`AdapterWeights::load`]; [`Error::Config`] where the whole model
    /// learns.
    pub fn init_from_adapter(
        &self,
        path: &Path,
        llama: &Llama,
        seed: u64,
        statistics: Option<&FeatureStatistics>,
    ) -> Result<TrainableWeights> {
        let Self::Adapter(config) = self else {
            let (field, found) = ("the adapter to start from", path.display().to_string());
            let expected = "none: the whole model learns";
            return Err(Error::Config { field, found, expected });
        };
        let device = llama.device().autodiff();
        let old = AdapterWeights::load(path, llama, &device)?;
        let config = old.config().or(config.clone());
        let fresh = with_feature_statistics(config.init(llama, seed, &device)?, statistics);
        Ok(TrainableWeights::Adapter(old.or(fresh)))
    }
}

/// The same adapter; what sees pictures starts from the spread of their features.
fn with_feature_statistics(
    adapter: AdapterWeights,
    statistics: Option<&FeatureStatistics>,
) -> AdapterWeights {
    let AdapterWeights { image: Some(image), .. } = &adapter else { return adapter };
    let Some(FeatureStatistics { mean, deviation }) = statistics else { return adapter };
    let image = Some(image.clone().with_statistics(mean, deviation));
    AdapterWeights { image, ..adapter }
}

impl TrainableWeights {
    /// The same, of which only some parts learn.
    ///
    /// # Errors
    /// [`Error::Config`] for a part that is not there, or no part at all.
    pub fn with_trainable_groups(self, parts: &[PartKind]) -> Result<Self> {
        let wrong = |found: String, expected| Error::Config {
            field: "the parts that learn",
            found,
            expected,
        };
        let Self::Adapter(adapter) = self else {
            return Err(wrong(format!("{parts:?}"), "none: the whole model learns"));
        };
        let present = adapter.kinds();
        if parts.is_empty() || parts.iter().any(|part| !present.contains(part)) {
            let found = format!("{parts:?} of an adapter of {present:?}");
            return Err(wrong(found, "parts of the adapter, at least one"));
        }
        Ok(Self::Adapter(adapter.freeze_except(parts)))
    }

    /// The same; what sees pictures starts from the spread of their features, where it is known.
    pub fn with_statistics(self, statistics: Option<&FeatureStatistics>) -> Self {
        match self {
            Self::Adapter(adapter) => Self::Adapter(with_feature_statistics(adapter, statistics)),
            Self::Full(model) => Self::Full(model),
        }
    }

    /// The same with prompts that start from the embeddings of a text.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty text, or where there are no prompts.
    pub fn with_prompt_text(self, base: &Llama, tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let wrong = |found: &str, expected| Error::Config {
            field: "the prompts' text",
            found: found.into(),
            expected,
        };
        let tokens = tokenizer.encode_raw(text)?;
        if tokens.is_empty() {
            return Err(wrong("empty", "words"));
        }
        match self {
            Self::Adapter(mut adapter) if adapter.prompts.is_some() => {
                let prompts = adapter.prompts.take();
                let prompts = prompts.map(|own| own.with_token_embeddings(base, &tokens));
                Ok(Self::Adapter(AdapterWeights { prompts: prompts.transpose()?, ..adapter }))
            }
            _ => Err(wrong("given", "none: this method has no prompts")),
        }
    }

    /// Runs `work` with the model and the adapter that make up what was learned on `base`; an adapter
    /// that sees pictures finds those that rows name among `pictures`.
    pub fn with_adapter<R>(
        &self,
        base: &Llama,
        pictures: Option<&ImageFeatureCache>,
        work: impl FnOnce(&Llama, &dyn BatchAdapter) -> R,
    ) -> R {
        match self {
            Self::Adapter(adapter) => {
                work(base, &MultimodalAdapter::new(base, adapter.clone(), pictures))
            }
            Self::Full(model) => work(model, &NoAdapter),
        }
    }

    /// The adapter, if it is one.
    pub fn adapter(&self) -> Option<&AdapterWeights> {
        match self {
            Self::Adapter(adapter) => Some(adapter),
            Self::Full(_) => None,
        }
    }

    /// Numbers in it.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }

    /// Numbers that training changes, before it; on a plain device nothing learns.
    pub fn n_trainable_parameters(&self) -> usize {
        params::count_trainable(self)
    }

    /// Whether its numbers are usable: none is NaN, and no tensor's sum passes what f32 can hold.
    ///
    /// # Errors
    /// [`Error::Model`] if the device fails.
    pub fn is_finite(&self) -> Result<bool> {
        struct Sums(Vec<Tensor<1>>);
        impl Visit for Sums {
            fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                self.0.push(value.inner().abs().sum());
            }
        }
        let mut sums = Sums(Vec::new());
        params::visit(self, &mut sums);
        let sums = read_back(Tensor::cat(sums.0, 0))?;
        Ok(sums.iter::<f32>().all(f32::is_finite))
    }

    /// Writes it into a folder: an adapter, or a whole model with its tokenizer.
    ///
    /// # Errors
    /// [`Error::Adapter`], [`Error::Model`].
    pub fn save(
        &self,
        folder: &Path,
        base: &Llama,
        tokenizer: &Tokenizer,
        name: &str,
    ) -> Result<()> {
        match self {
            Self::Adapter(adapter) => adapter.save(folder, base, name)?,
            Self::Full(model) => {
                weights::huggingface::save(model, folder, DType::F32)?;
                tokenizer.save(folder)?;
            }
        }
        Ok(())
    }

    /// Reads what [`save`](Self::save) wrote.
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
