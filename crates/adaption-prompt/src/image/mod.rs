//! What is seen in a picture joins the prompts.
//!
//! ```text
//! features ─► minus mean, × scale ─► tokens as wide as the model
//!     ─┬─► × gate ─► added to the prompts of adapted layers
//!      └─► prompts of the first layers, behind gates of their own
//! ```

mod config;
mod form;
mod sight;
pub(crate) mod slots;

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::model::PromptKv;
use llama::{Adapter, GatedPrompt, Llama, LlamaConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub use config::{ImageConfig, ImageFusion, ImageProjectorConfig};
pub use form::{GlobalProjector, ImageProjector, QueryProjector};
pub use sight::{ImageBatch, ImageFeatures};

use self::slots::{Slot, Slots, Visit};
use crate::adapter::activated;
use crate::config::Gate;
use crate::data::ImageData;
use crate::error::Result;

/// What the names of its numbers begin with in files.
pub(crate) const TENSOR_PREFIX: &str = "image";

/// What makes an adapter see pictures.
#[derive(Module, Debug)]
pub struct ImageCondition {
    /// What is taken from features, `[features]`.
    pub mean: Param<Tensor<1>>,
    /// What the rest is multiplied by, `[features]`.
    pub scale: Param<Tensor<1>>,
    /// Makes tokens of features.
    pub tokens: ImageProjector,
    /// `[1]`, multiplies the tokens where they are added to prompts.
    pub gate: Option<Param<Tensor<1>>>,
    /// Gates of the first layers, where the tokens are their prompts: `[1]`, or `[heads]`.
    pub early: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    config: ImageConfig,
}

impl ImageCondition {
    /// Places for the numbers of a condition.
    pub(crate) fn empty(
        config: &ImageConfig,
        d_model: usize,
        n_heads: usize,
        device: &Device,
    ) -> Self {
        let zeros = |count: usize| Param::from_tensor(Tensor::<1>::zeros([count], device));
        let (gate, early) = match config.fusion {
            ImageFusion::Prompts { .. } => (Some(zeros(1)), Vec::new()),
            ImageFusion::Early { layers, gate, .. } => {
                let gates = if gate == Gate::PerHead { n_heads } else { 1 };
                (None, (0..layers).map(|_| zeros(gates)).collect())
            }
        };
        let tokens = ImageProjector::empty(&config.form, config.features, d_model, device);
        let mean = Param::from_tensor(Tensor::zeros([config.features], device));
        let scale = Param::from_tensor(Tensor::ones([config.features], device));
        Self { mean, scale, tokens, gate, early, config: config.clone() }
    }

    /// A fresh condition, drawn from `seed`: the same on every device.
    pub(crate) fn init(
        config: &ImageConfig,
        model: &LlamaConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut fresh = Self::empty(config, model.d_model, model.n_heads, device);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Another stream than prompts and LoRA draw from.
        rng.set_stream(2);
        let gate = match config.fusion {
            ImageFusion::Prompts { gate } => gate as f32,
            ImageFusion::Early { .. } => 0.0,
        };
        fresh.slots("", &mut |name, slot| {
            let shape = slot.shape();
            let count = shape.iter().product::<usize>();
            let values = match &shape[..] {
                _ if name.ends_with("visual_query.weight") => {
                    (0..count).map(|_| StandardNormal.sample(&mut rng)).collect()
                }
                // As PyTorch's linear layers start; biases start at 0.
                &[_out, d_in] => {
                    let bound = 1.0 / (d_in as f32).sqrt();
                    (0..count).map(|_| rng.random_range(-bound..bound)).collect()
                }
                _ if name == ".gate" => vec![gate],
                // What is left with a weight are norms.
                _ if name.ends_with(".weight") || name == ".scale" => vec![1.0; count],
                _ => vec![0.0; count],
            };
            slot.put(values, device);
        });
        fresh
    }

    /// The same, starting from features that are spread around zero: `mean` is taken from each of
    /// them, and the rest divided by `deviation`. Numbers of an encoder differ far less from picture
    /// to picture than they differ from zero, and what is made of them learns slowly without.
    ///
    /// # Panics
    /// If there are not as many as features.
    #[must_use]
    pub fn with_statistics(mut self, mean: &[f32], deviation: &[f32]) -> Self {
        /// Of the largest deviation; what varies less is noise.
        const LEAST: f32 = 1e-3;
        let device = self.mean.val().device();
        let largest = deviation.iter().copied().fold(0.0, f32::max);
        // One picture alone does not vary at all.
        let scale = |own: &f32| if largest > 0.0 { own.max(LEAST * largest).recip() } else { 1.0 };
        let scale = deviation.iter().map(scale).collect();
        assert_eq!((mean.len(), deviation.len()), (self.config.features, self.config.features));
        Slot::Vector(&mut self.mean).put(mean.to_vec(), &device);
        Slot::Vector(&mut self.scale).put(scale, &device);
        self
    }

    /// Puts plain numbers on a device; all that does not fit goes to `problems`.
    pub(crate) fn from_data(
        data: &ImageData,
        d_model: usize,
        n_heads: usize,
        device: &Device,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut own = Self::empty(&data.config, d_model, n_heads, device);
        let mut rest = data.tensors.keys().collect::<BTreeSet<_>>();
        own.slots(TENSOR_PREFIX, &mut |name, slot| {
            let shape = slot.shape();
            rest.remove(&name);
            match data.tensors.get(&name) {
                Some((found, values)) if *found == shape => slot.put(values.clone(), device),
                Some((found, _)) => {
                    problems.push(format!("{name}: expected {shape:?}, found {found:?}"));
                }
                None => problems.push(format!("missing: {name}")),
            }
        });
        problems.extend(rest.into_iter().map(|name| format!("unexpected: {name}")));
        own
    }

    /// The numbers.
    pub(crate) fn to_data(&self) -> Result<ImageData> {
        let mut tensors = BTreeMap::new();
        let mut failed = None;
        self.clone().slots(TENSOR_PREFIX, &mut |name, slot| match slot.values() {
            Ok(values) => {
                tensors.insert(name, (slot.shape(), values));
            }
            Err(error) => failed = Some(error),
        });
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(ImageData { config: self.config.clone(), tensors }),
        }
    }

    /// Its shape.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// What rows see, to join the passes of a batch. It is computed once for each picture, however
    /// many rows see it.
    ///
    /// # Panics
    /// If the features are of another width, or a row sees a picture that is not there.
    pub fn image_features(&self, views: &ImageBatch) -> ImageFeatures {
        let features = views.features.clone() - self.mean.val().unsqueeze();
        let tokens = self.tokens.forward(features * self.scale.val().unsqueeze());
        let tokens = match &self.gate {
            Some(gate) => tokens * gate.val().reshape([1, 1, 1]),
            None => tokens,
        };
        ImageFeatures::new(tokens, views.rows.clone())
    }

    /// The pictures as prompts of the first layers.
    pub(crate) fn early_fusion_prompts(
        &self,
        llama: &Llama,
        change: &dyn Adapter,
        sight: &ImageFeatures,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<(usize, GatedPrompt)> {
        let ImageFusion::Early { activation, .. } = self.config.fusion else { return Vec::new() };
        let own = self.early.iter().enumerate().filter(|(layer, _)| wanted(*layer));
        let prompts = own.map(|(layer, gate)| {
            let attention = &llama.layers[layer].attention;
            let tokens = sight.tokens();
            let PromptKv { key, value } = attention.project_prompt(layer, tokens, change);
            let gate = sight.gates(activated(&gate.val(), activation));
            let (key, value) = (sight.gather_rows(key), sight.gather_rows(value));
            (layer, GatedPrompt { key, value, gate, lens: None })
        });
        prompts.collect()
    }
}

impl Slots for ImageCondition {
    fn slots(&mut self, name: &str, visit: &mut Visit) {
        visit(format!("{name}.mean"), Slot::Vector(&mut self.mean));
        visit(format!("{name}.scale"), Slot::Vector(&mut self.scale));
        self.tokens.slots(name, visit);
        if let Some(gate) = &mut self.gate {
            visit(format!("{name}.gate"), Slot::Vector(gate));
        }
        for (layer, gate) in self.early.iter_mut().enumerate() {
            visit(format!("{name}.early.{layer}.gate"), Slot::Vector(gate));
        }
    }
}
