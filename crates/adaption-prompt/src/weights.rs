//! Everything that one adapter has learned.

use burn::module::Module;
use burn::tensor::Device;
use llama::{Adapter, Llama};

use crate::adapter::AdaptionPrompt;
use crate::config::AdapterConfig;
use crate::lora::Lora;
use crate::prepared::{Change, Prepared};
use crate::projected::ProjectedPrompts;
use crate::v2::AdapterV2;

/// An adapter: prompts, Adapter V2, LoRA, or several of them. On an autodiff device it can be
/// trained.
#[derive(Module, Debug)]
pub struct AdapterWeights {
    /// Gated prompts.
    pub prompts: Option<AdaptionPrompt>,
    /// Scales, biases and norms.
    pub v2: Option<AdapterV2>,
    /// Low-rank products.
    pub lora: Option<Lora>,
}

impl From<AdaptionPrompt> for AdapterWeights {
    fn from(prompts: AdaptionPrompt) -> Self {
        Self { prompts: Some(prompts), v2: None, lora: None }
    }
}

impl AdapterWeights {
    /// What it is made of.
    pub fn config(&self) -> AdapterConfig {
        AdapterConfig {
            prompts: self.prompts.as_ref().map(|prompts| prompts.config().clone()),
            v2: self.v2.as_ref().map(|v2| v2.config().clone()),
            lora: self.lora.as_ref().map(|lora| lora.config().clone()),
        }
    }

    /// Makes it ready to join a model's passes: prompts become keys and values.
    ///
    /// While training, do it again in every step; to answer, once. See
    /// [`AdaptionPrompt::project`].
    ///
    /// # Panics
    /// If it was made for a model of other sizes.
    pub fn prepare(&self, llama: &Llama) -> Prepared {
        self.prepare_layers(llama, |_| true)
    }

    /// As [`prepare`](Self::prepare), for a part of the layers: others have no prompts then.
    pub fn prepare_layers(&self, llama: &Llama, wanted: impl Fn(usize) -> bool) -> Prepared {
        let change = Change { weight: 1.0, v2: self.v2.clone(), lora: self.lora.clone() };
        let changes = if change.is_empty() { Vec::new() } else { vec![change] };
        let without_prompts = Prepared { prompts: ProjectedPrompts::default(), changes };
        let prompts = self
            .prompts
            .as_ref()
            .map(|prompts| prompts.project(llama, &without_prompts as &dyn Adapter, wanted));
        Prepared { prompts: prompts.unwrap_or_default(), ..without_prompts }
    }

    /// The lowest layer that it changes; none below has a part in its gradients.
    pub fn first_layer(&self) -> usize {
        let prompts = self.prompts.iter().filter_map(|prompts| prompts.indices().first().copied());
        let v2 = self.v2.iter().filter_map(|v2| {
            v2.layers.iter().position(|own| !own.linears.is_empty() || !own.norms.is_empty())
        });
        let lora = self
            .lora
            .iter()
            .filter_map(|lora| lora.layers.iter().position(|own| !own.pairs.is_empty()));
        prompts.chain(v2).chain(lora).min().unwrap_or(0)
    }

    /// Where its numbers are.
    pub fn device(&self) -> Device {
        // Every part of an adapter is on one device.
        self.devices().into_iter().next().unwrap_or_default()
    }

    /// Numbers that training changes.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }
}
