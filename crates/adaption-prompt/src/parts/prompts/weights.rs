//! prompt ─► key and value projections ─┐
//! query ───────────────────────────────┴► softmax over the prompt ─► × gate ─► added to the heads
//!
//! The gates start at zero, so a fresh adapter equals the base model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::config::ModelShape;
use llama::model::PromptKv;
use llama::{GatedPrompt, Llama, NoAdapter, read_back};
use rand_distr::{Distribution, StandardNormal};

use super::config::{AdaptionPromptConfig, PromptInit, PromptProjection};
use super::data::{
    PROMPT_SUFFIXES, PromptData, PromptLayerData, PromptSettings, prompts_from_tensors,
};
use super::summary::PromptSummary;
use crate::adapted_layers::AdaptedLayers;
use crate::error::Result;
use crate::gate::{GateActivation, LayerGates, activate_gates};
use crate::param;
use crate::part::{AssembleContext, Part, PartTensors, PartWeights, PrepareContext, PromptShape};
use crate::projected_prompts::ProjectedPrompts;
use crate::tensors::names::{ModuleName, TensorAddress};

/// Random stream of the initial values.
const RNG_STREAM: u64 = 0;

/// Trainable prompts and gates of the adapted layers, in f32.
///
/// Source: arXiv 2303.16199.
#[derive(Module, Debug)]
pub struct AdaptionPrompt {
    /// From the first adapted layer to the last.
    pub layers: Vec<LayerPrompt>,
    #[module(skip)]
    config: AdaptionPromptConfig,
    #[module(skip)]
    indices: Vec<usize>,
}

/// Prompt and gates of one layer.
#[derive(Module, Debug)]
pub struct LayerPrompt {
    /// `[prompt, d_model]`
    pub prompt: Param<Tensor<2>>,
    /// `[1]`, or `[heads]` with a gate per head.
    pub gate: Param<Tensor<1>>,
    /// `[1]`, multiplies the activated gates.
    pub factor: Option<Param<Tensor<1>>>,
}

impl AdaptionPromptConfig {
    /// Fresh prompts for a model, drawn from `seed`: the same on every device. On an autodiff device they
    /// can be trained.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, llama: &Llama, seed: u64, device: &Device) -> Result<AdaptionPrompt> {
        let model = llama.config();
        self.validate(model.n_layers)?;
        let indices = self.layers.indices(model.n_layers)?;
        let mut rng = param::seeded_rng(seed, RNG_STREAM);
        let mut sample_normal = |count: usize, std: f64| {
            let sample = |_| {
                let normal: f32 = StandardNormal.sample(&mut rng);
                normal * std as f32
            };
            (0..count).map(sample).collect::<Vec<_>>()
        };
        let layers = indices.iter().map(|_| {
            let prompt = sample_normal(self.adapter_len * model.d_model, self.init.prompt_std);
            let mut gate = vec![self.init.gate as f32; self.gates_per_layer(model.n_heads)];
            if self.init.gate_std > 0.0 {
                let noise = sample_normal(gate.len(), self.init.gate_std);
                gate.iter_mut().zip(noise).for_each(|(gate, noise)| *gate += noise);
            }
            let factor = self.factor.then_some(1.0);
            LayerPrompt::from_values(prompt, &gate, factor, self.adapter_len, device)
        });
        let layers = layers.collect();
        Ok(AdaptionPrompt { layers, config: self.clone(), indices })
    }
}

impl LayerPrompt {
    fn from_values(
        prompt: Vec<f32>,
        gate: &[f32],
        factor: Option<f32>,
        adapter_len: usize,
        device: &Device,
    ) -> Self {
        let d_model = prompt.len() / adapter_len;
        Self {
            prompt: param::from_values(prompt, [adapter_len, d_model], device),
            gate: param::vector(gate, device),
            factor: factor.map(|factor| param::vector(&[factor], device)),
        }
    }

    /// The activated gates times the factor, `[1, heads or 1, 1, 1]`.
    fn gate_multiplier(&self, activation: GateActivation) -> Tensor<4> {
        let gate = activate_gates(&self.gate.val(), activation);
        match &self.factor {
            Some(factor) => gate * factor.val().reshape([1, 1, 1, 1]),
            None => gate,
        }
    }
}

impl AdaptionPrompt {
    /// Shape and initialization.
    pub fn config(&self) -> &AdaptionPromptConfig {
        &self.config
    }

    /// Indices of the adapted layers in the model, in ascending order.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The gates of each layer as they act, in one transfer from the device.
    ///
    /// # Errors
    /// [`llama::Error::Device`]
    pub fn effective_gates(&self) -> Result<Vec<LayerGates>> {
        let activated = self.layers.iter().map(|own| {
            let gate = own.gate_multiplier(self.config.activation);
            let [_batch, gates, _seq, _head_dim] = gate.dims();
            gate.reshape([gates])
        });
        let activated = activated.collect::<Vec<_>>();
        let counts = activated.iter().map(|gate| gate.dims()[0]).collect::<Vec<_>>();
        if counts.is_empty() {
            return Ok(Vec::new());
        }
        let values = read_back(Tensor::cat(activated, 0))?;
        let mut values = values.iter::<f32>();
        let layers = self.indices.iter().zip(counts);
        let layers = layers.map(|(&layer, count)| {
            let gates = values.by_ref().take(count).collect();
            LayerGates { layer, gates }
        });
        Ok(layers.collect())
    }

    /// The same prompts with the embeddings of some tokens as their values. The tokens are repeated if
    /// they are fewer than the prompt tokens.
    ///
    /// # Errors
    /// [`llama::Error::TokenId`] for an id outside the vocabulary; [`llama::Error::Device`].
    ///
    /// # Panics
    /// If there are no tokens.
    pub fn with_token_embeddings(mut self, llama: &Llama, tokens: &[u32]) -> Result<Self> {
        assert!(!tokens.is_empty(), "no tokens to start from");
        let ids = tokens.iter().copied().cycle().take(self.config.adapter_len);
        let ids = llama.tokens(&[ids.collect()])?.squeeze_dim::<1>(0);
        let rows = read_back(llama.embedding.select(ids))?;
        for layer in &mut self.layers {
            layer.prompt = Param::from_data(rows.clone(), &layer.prompt.val().device());
        }
        Ok(self)
    }
}

impl PartWeights for AdaptionPrompt {
    fn first_layer(&self) -> Option<usize> {
        self.indices.first().copied()
    }

    fn prompt_shape(&self) -> Option<PromptShape> {
        Some(PromptShape::new(self.config.adapter_len, self.indices.clone()))
    }

    /// Costs `2 * adapter_len * d_model * kv_heads * head_dim` multiplications per layer.
    fn prompts(&self, context: &PrepareContext) -> ProjectedPrompts {
        let modifiers = match self.config.projection {
            PromptProjection::Adapted => context.modifiers,
            PromptProjection::Frozen => &NoAdapter,
        };
        let images = context.images.filter(|images| images.added_to_prompts());
        let layers = self.indices.iter().zip(&self.layers);
        let adapted = layers.filter(|(index, _)| (context.includes_layer)(**index));
        let branches = adapted.map(|(&index, own)| {
            let attention = &context.llama.layers[index].attention;
            let prompt = own.prompt.val().unsqueeze();
            let prompt = match images {
                Some(images) => images.add_to_prompt(prompt),
                None => prompt,
            };
            let PromptKv { key, value } = attention.project_prompt(index, prompt, modifiers);
            let (key, value) = match images {
                Some(images) => (images.gather_rows(key), images.gather_rows(value)),
                None => (key, value),
            };
            let gate = own.gate_multiplier(self.config.activation);
            (index, GatedPrompt { key, value, gate, lens: None })
        });
        branches.collect()
    }
}

impl Part for AdaptionPrompt {
    type Config = AdaptionPromptConfig;
    type Data = PromptData;
    type Summary = PromptSummary;
    type Settings = PromptSettings;

    fn init(config: &Self::Config, llama: &Llama, seed: u64, device: &Device) -> Result<Self> {
        config.init(llama, seed, device)
    }

    fn config(&self) -> Self::Config {
        self.config.clone()
    }

    fn from_data(
        data: &PromptData,
        model: &ModelShape,
        device: &Device,
        _problems: &mut Vec<String>,
    ) -> Self {
        let indices = data.layers.keys().copied().collect::<Vec<_>>();
        let config = AdaptionPromptConfig {
            adapter_len: data.adapter_len,
            layers: AdaptedLayers::from_indices(&indices, model.n_layers),
            gate: data.gate,
            activation: data.activation,
            factor: data.layers.values().any(|own| own.factor.is_some()),
            projection: data.projection,
            init: PromptInit::default(),
        };
        let layers = data.layers.values().map(|own| {
            let prompt = own.prompt.clone();
            LayerPrompt::from_values(prompt, &own.gate, own.factor, data.adapter_len, device)
        });
        Self { layers: layers.collect(), config, indices }
    }

    fn to_data(&self) -> Result<PromptData> {
        let mut d_model = 0;
        let layers = self.indices.iter().zip(&self.layers).map(|(&index, own)| {
            [_, d_model] = own.prompt.val().dims();
            let factor = own.factor.as_ref().map(param::values).transpose()?;
            let factor = factor.and_then(|factor| factor.first().copied());
            let (prompt, gate) = (param::values(&own.prompt)?, param::values(&own.gate)?);
            Ok((index, PromptLayerData { prompt, gate, factor }))
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(PromptData {
            adapter_len: self.config.adapter_len,
            d_model,
            gate: self.config.gate,
            activation: self.config.activation,
            projection: self.config.projection,
            layers,
        })
    }

    fn summary(data: &PromptData) -> PromptSummary {
        PromptSummary::from_data(data)
    }

    fn settings(data: &PromptData) -> PromptSettings {
        PromptSettings::new(data.gate, data.activation, data.projection)
    }

    fn claims(_name: &str, address: Option<&TensorAddress>) -> bool {
        address.is_some_and(|address| {
            address.module == ModuleName::Attention && PROMPT_SUFFIXES.contains(&address.suffix)
        })
    }

    fn from_tensors(
        settings: PromptSettings,
        tensors: PartTensors,
        context: &AssembleContext,
        problems: &mut Vec<String>,
    ) -> PromptData {
        prompts_from_tensors(&settings, &tensors, context.family, problems)
    }
}
