//! The weights that training changes.

use std::path::Path;

use adaption_prompt::{AdapterWeights, AdaptionPrompt, PartKind};
use burn::module::Module;
use burn::tensor::{DType, Tensor};
use llama::{Llama, NoAdapter, read_back, weights};
use text::{PromptFormat, Tokenizer};

use super::parameter_visitor::{ParameterVisitor, count_trainable, visit_parameters};
use crate::error::{Error, Result};
use crate::images::{BatchAdapter, FeatureStatistics, ImageFeatureCache, MultimodalAdapter};

/// An adapter or a whole model that is trained.
///
/// Parameters on an autodiff device are trainable, all others are frozen.
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

/// Initializes the image part of an adapter with the statistics of its features.
pub(super) fn with_feature_statistics(
    adapter: AdapterWeights,
    statistics: Option<&FeatureStatistics>,
) -> AdapterWeights {
    let AdapterWeights { image: Some(image), .. } = &adapter else { return adapter };
    let Some(FeatureStatistics { mean, std_dev }) = statistics else { return adapter };
    let image = Some(image.clone().with_statistics(mean, std_dev));
    AdapterWeights { image, ..adapter }
}

impl TrainableWeights {
    /// Freezes all parameter groups but these.
    ///
    /// # Errors
    /// [`Error::Config`] for a group that the adapter does not have, or for no group.
    pub fn with_trainable_groups(self, groups: &[PartKind]) -> Result<Self> {
        let config_error = |found: String, expected| Error::Config {
            field: "the trainable parameter groups",
            found,
            expected,
        };
        let Self::Adapter(adapter) = self else {
            return Err(config_error(format!("{groups:?}"), "none: the whole model is trained"));
        };
        let present = adapter.kinds();
        if groups.is_empty() || groups.iter().any(|group| !present.contains(group)) {
            let found = format!("{groups:?} of an adapter of {present:?}");
            return Err(config_error(found, "groups of the adapter, at least one"));
        }
        Ok(Self::Adapter(adapter.freeze_except(groups)))
    }

    /// Initializes the image part with the statistics of its features, if there are any.
    pub fn with_feature_statistics(self, statistics: Option<&FeatureStatistics>) -> Self {
        match self {
            Self::Adapter(adapter) => Self::Adapter(with_feature_statistics(adapter, statistics)),
            Self::Full(model) => Self::Full(model),
        }
    }

    /// Initializes the prompts with the token embeddings of a text.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty text, or for weights without prompts.
    pub fn with_prompt_text(self, base: &Llama, tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let config_error = |found: &str, expected| Error::Config {
            field: "the prompt initialization text",
            found: found.into(),
            expected,
        };
        let tokens = tokenizer.encode_raw(text)?;
        if tokens.is_empty() {
            return Err(config_error("empty", "words"));
        }
        match self {
            Self::Adapter(mut adapter) if adapter.prompts.is_some() => {
                let prompts = adapter.prompts.take();
                let prompts = prompts.map(|prompts| prompts.with_token_embeddings(base, &tokens));
                Ok(Self::Adapter(AdapterWeights { prompts: prompts.transpose()?, ..adapter }))
            }
            _ => Err(config_error("given", "none: this method has no prompts")),
        }
    }

    /// Calls `f` with the model and the adapter that these weights make up with `base`. An adapter
    /// with image conditioning gets the images of rows from `image_features`.
    pub fn with_adapter<R>(
        &self,
        base: &Llama,
        image_features: Option<&ImageFeatureCache>,
        f: impl FnOnce(&Llama, &dyn BatchAdapter) -> R,
    ) -> R {
        match self {
            Self::Adapter(adapter) => {
                f(base, &MultimodalAdapter::new(base, adapter.clone(), image_features))
            }
            Self::Full(model) => f(model, &NoAdapter),
        }
    }

    /// The adapter; `None` for a whole model.
    pub fn adapter(&self) -> Option<&AdapterWeights> {
        match self {
            Self::Adapter(adapter) => Some(adapter),
            Self::Full(_) => None,
        }
    }

    /// The gated prompts; `None` for a method without them.
    pub fn prompts(&self) -> Option<&AdaptionPrompt> {
        self.adapter()?.prompts.as_ref()
    }

    /// The lowest layer that these weights modify: below it a pass is that of the base model.
    pub fn first_layer(&self) -> usize {
        match self {
            Self::Adapter(adapter) => adapter.first_layer(),
            Self::Full(_) => 0,
        }
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }

    /// Number of trainable parameters; 0 on a plain device.
    pub fn n_trainable_parameters(&self) -> usize {
        count_trainable(self)
    }

    /// Whether no parameter is NaN or infinite, and no tensor's sum of absolute values exceeds f32.
    ///
    /// # Errors
    /// [`Error::Model`] if the device fails.
    pub fn is_finite(&self) -> Result<bool> {
        struct AbsSums(Vec<Tensor<1>>);
        impl ParameterVisitor for AbsSums {
            fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                self.0.push(value.inner().abs().sum());
            }
        }
        let mut sums = AbsSums(Vec::new());
        visit_parameters(self, &mut sums);
        let sums = read_back(Tensor::cat(sums.0, 0))?;
        Ok(sums.iter::<f32>().all(f32::is_finite))
    }

    /// Saves the weights into a folder: an adapter in PEFT's format, or a whole model with its
    /// tokenizer. `name` is the base model's name in the adapter's files.
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
        self.save_with_prompt(folder, base, tokenizer, name, &PromptFormat::default())
    }

    /// As [`save`](Self::save), with the prompt format of the training: it becomes part of an adapter's
    /// folder. A chat template becomes that of a model's tokenizer.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_with_prompt(
        &self,
        folder: &Path,
        base: &Llama,
        tokenizer: &Tokenizer,
        name: &str,
        prompt: &PromptFormat,
    ) -> Result<()> {
        match self {
            Self::Adapter(adapter) => adapter.save_with_prompt(folder, base, name, prompt)?,
            Self::Full(model) => {
                weights::huggingface::save(model, folder, DType::F32)?;
                let mut tokenizer = tokenizer.clone();
                let source = prompt.template.source(&tokenizer);
                tokenizer.chat_template = source.or(tokenizer.chat_template);
                tokenizer.save(folder)?;
            }
        }
        Ok(())
    }
}
