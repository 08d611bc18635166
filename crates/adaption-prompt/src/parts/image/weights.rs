//! features ─► minus mean, × scale ─► projector ─► image tokens
//!     ─┬─► × gate ─► added to the prompts of the adapted layers
//!      └─► early fusion: prompts of the first layers, with gates of their own

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::config::ModelShape;
use llama::model::PromptKv;
use llama::{GatedPrompt, Llama};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::config::{ImageConfig, ImageFusion};
use super::data::{ImageData, TENSOR_PREFIX, is_image_tensor};
use super::parameters::{NamedParameters, ParameterMut, ParameterVisitor};
use super::projector::ImageProjector;
use crate::error::Result;
use crate::gate::activate_gates;
use crate::image_features::{ImageBatch, ImageFeatures};
use crate::param;
use crate::part::{AssembleContext, Part, PartTensors, PartWeights, PrepareContext};
use crate::projected_prompts::ProjectedPrompts;
use crate::tensors::names::TensorAddress;

/// Random stream of the initial values.
const RNG_STREAM: u64 = 2;

/// Trainable image conditioning.
#[derive(Module, Debug)]
pub struct ImageCondition {
    /// Subtracted from the features, `[features]`.
    pub mean: Param<Tensor<1>>,
    /// Multiplies the centered features, `[features]`.
    pub scale: Param<Tensor<1>>,
    /// Makes tokens from features.
    pub tokens: ImageProjector,
    /// `[1]`, multiplies the tokens that are added to prompts.
    pub gate: Option<Param<Tensor<1>>>,
    /// Gates of the early-fusion layers: `[1]`, or `[heads]`.
    pub early: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    config: ImageConfig,
}

impl ImageCondition {
    /// A condition with zero matrices and gates.
    fn zeros(config: &ImageConfig, d_model: usize, n_heads: usize, device: &Device) -> Self {
        let zeros = |count: usize| Param::from_tensor(Tensor::<1>::zeros([count], device));
        let (gate, early) = match config.fusion {
            ImageFusion::Prompts { .. } => (Some(zeros(1)), Vec::new()),
            ImageFusion::Early { layers, gate, .. } => {
                (None, (0..layers).map(|_| zeros(gate.count(n_heads))).collect())
            }
        };
        let tokens = ImageProjector::zeros(&config.form, config.features, d_model, device);
        let mean = Param::from_tensor(Tensor::zeros([config.features], device));
        let scale = Param::from_tensor(Tensor::ones([config.features], device));
        Self { mean, scale, tokens, gate, early, config: config.clone() }
    }

    /// The same condition with features standardized by their mean and standard deviation. Features of an
    /// encoder differ far less between images than they differ from zero, which slows training.
    ///
    /// # Panics
    /// If the lengths are not the width of the features.
    #[must_use]
    pub fn with_statistics(mut self, mean: &[f32], std_dev: &[f32]) -> Self {
        /// Lower bound of a standard deviation, relative to the largest. Smaller ones are noise.
        const MIN_RELATIVE_STD_DEV: f32 = 1e-3;
        let device = self.mean.val().device();
        let largest = std_dev.iter().copied().fold(0.0, f32::max);
        // All are 0 for a single image.
        let scale = |own: &f32| {
            if largest > 0.0 { own.max(MIN_RELATIVE_STD_DEV * largest).recip() } else { 1.0 }
        };
        let scale = std_dev.iter().map(scale).collect();
        assert_eq!((mean.len(), std_dev.len()), (self.config.features, self.config.features));
        ParameterMut::Vector(&mut self.mean).set(mean.to_vec(), &device);
        ParameterMut::Vector(&mut self.scale).set(scale, &device);
        self
    }

    /// Shape of the condition.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Image tokens of the rows of a batch. They are computed once per image, however many rows have it.
    ///
    /// # Panics
    /// If the features have another width, or the image index of a row is out of range.
    pub fn image_features(&self, batch: &ImageBatch) -> ImageFeatures {
        let features = batch.features.clone() - self.mean.val().unsqueeze();
        let tokens = self.tokens.forward(features * self.scale.val().unsqueeze());
        let tokens = match &self.gate {
            Some(gate) => tokens * gate.val().reshape([1, 1, 1]),
            None => tokens,
        };
        let added_to_prompts = matches!(self.config.fusion, ImageFusion::Prompts { .. });
        ImageFeatures::new(tokens, batch.rows.clone(), added_to_prompts)
    }
}

impl NamedParameters for ImageCondition {
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor) {
        visitor(format!("{name}.mean"), ParameterMut::Vector(&mut self.mean));
        visitor(format!("{name}.scale"), ParameterMut::Vector(&mut self.scale));
        self.tokens.visit_parameters(name, visitor);
        if let Some(gate) = &mut self.gate {
            visitor(format!("{name}.gate"), ParameterMut::Vector(gate));
        }
        for (layer, gate) in self.early.iter_mut().enumerate() {
            visitor(format!("{name}.early.{layer}.gate"), ParameterMut::Vector(gate));
        }
    }
}

impl PartWeights for ImageCondition {
    fn first_layer(&self) -> Option<usize> {
        (!self.early.is_empty()).then_some(0)
    }

    /// The early-fusion prompts.
    fn prompts(&self, context: &PrepareContext) -> ProjectedPrompts {
        let (ImageFusion::Early { activation, .. }, Some(images)) =
            (&self.config.fusion, context.images)
        else {
            return ProjectedPrompts::default();
        };
        let layers = self.early.iter().enumerate();
        let prepared = layers.filter(|(layer, _)| (context.includes_layer)(*layer));
        let prompts = prepared.map(|(layer, gate)| {
            let attention = &context.llama.layers[layer].attention;
            let PromptKv { key, value } =
                attention.project_prompt(layer, images.tokens(), context.modifiers);
            let gate = images.mask_gates(activate_gates(&gate.val(), *activation));
            let (key, value) = (images.gather_rows(key), images.gather_rows(value));
            (layer, GatedPrompt { key, value, gate, lens: None })
        });
        prompts.collect()
    }
}

impl Part for ImageCondition {
    type Config = ImageConfig;
    type Data = ImageData;
    type Summary = ImageConfig;
    type Settings = ImageConfig;

    fn init(config: &ImageConfig, llama: &Llama, seed: u64, device: &Device) -> Result<Self> {
        let model = llama.config();
        let mut fresh = Self::zeros(config, model.d_model, model.n_heads, device);
        let mut rng = param::seeded_rng(seed, RNG_STREAM);
        let gate = match config.fusion {
            ImageFusion::Prompts { gate } => gate as f32,
            ImageFusion::Early { .. } => 0.0,
        };
        fresh.visit_parameters("", &mut |name, parameter| {
            let shape = parameter.shape();
            let count = shape.iter().product::<usize>();
            let values = match &shape[..] {
                _ if name.ends_with("visual_query.weight") => {
                    (0..count).map(|_| StandardNormal.sample(&mut rng)).collect()
                }
                // As in PyTorch's linear layers, but with biases of 0.
                &[_out, d_in] => {
                    let bound = 1.0 / (d_in as f32).sqrt();
                    (0..count).map(|_| rng.random_range(-bound..bound)).collect()
                }
                _ if name == ".gate" => vec![gate],
                // The other weights are those of norms.
                _ if name.ends_with(".weight") || name == ".scale" => vec![1.0; count],
                _ => vec![0.0; count],
            };
            parameter.set(values, device);
        });
        Ok(fresh)
    }

    fn config(&self) -> ImageConfig {
        self.config.clone()
    }

    fn from_data(
        data: &ImageData,
        model: &ModelShape,
        device: &Device,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut condition = Self::zeros(&data.config, model.d_model, model.n_heads, device);
        let mut unclaimed = data.tensors.keys().collect::<BTreeSet<_>>();
        condition.visit_parameters(TENSOR_PREFIX, &mut |name, parameter| {
            let shape = parameter.shape();
            unclaimed.remove(&name);
            match data.tensors.get(&name) {
                Some((found, values)) if *found == shape => parameter.set(values.clone(), device),
                Some((found, _)) => {
                    problems.push(format!("{name}: expected {shape:?}, found {found:?}"));
                }
                None => problems.push(format!("missing: {name}")),
            }
        });
        problems.extend(unclaimed.into_iter().map(|name| format!("unexpected: {name}")));
        condition
    }

    fn to_data(&self) -> Result<ImageData> {
        let mut tensors = BTreeMap::new();
        let mut failed = None;
        let mut insert = |name: String, parameter: ParameterMut| match parameter.values() {
            Ok(values) => {
                tensors.insert(name, (parameter.shape(), values));
            }
            Err(error) => failed = Some(error),
        };
        self.clone().visit_parameters(TENSOR_PREFIX, &mut insert);
        match failed {
            Some(error) => Err(error),
            None => Ok(ImageData { config: self.config.clone(), tensors }),
        }
    }

    fn summary(data: &ImageData) -> ImageConfig {
        data.config.clone()
    }

    fn settings(data: &ImageData) -> ImageConfig {
        data.config.clone()
    }

    fn claims(name: &str, _address: Option<&TensorAddress>) -> bool {
        is_image_tensor(name)
    }

    fn from_tensors(
        settings: ImageConfig,
        tensors: PartTensors,
        _context: &AssembleContext,
        _problems: &mut Vec<String>,
    ) -> ImageData {
        let tensors = tensors.by_name.into_iter();
        let tensors = tensors.map(|(name, tensor)| (name, (tensor.shape, tensor.values)));
        ImageData { config: settings, tensors: tensors.collect() }
    }
}
