//! prompt ─► frozen key and value projections ─┐
//! query ──────────────────────────────────────┴► softmax over the prompt ─► × gate ─► to heads
//!
//! The gate starts at zero: a fresh adapter changes nothing.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use llama::model::PromptKv;
use llama::{Adapter, GatedPrompt, Llama, LlamaConfig, NoAdapter, read_back};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::config::{AdaptionPromptConfig, GateActivation, PromptProjection};
use crate::error::Result;
use crate::image::ImageFeatures;
use crate::projected::ProjectedPrompts;

/// The prompts of a LLaMA-Adapter: one gated prompt for each adapted layer of a model, in f32.
///
/// It holds what is learned and nothing else. [`project`](Self::project) makes of it what joins a
/// model.
#[derive(Module, Debug)]
pub struct AdaptionPrompt {
    /// From the first adapted layer to the last.
    pub layers: Vec<LayerPrompt>,
    #[module(skip)]
    config: AdaptionPromptConfig,
    #[module(skip)]
    indices: Vec<usize>,
}

/// What one layer learns.
#[derive(Module, Debug)]
pub struct LayerPrompt {
    /// `[prompt, d_model]`
    pub prompt: Param<Tensor<2>>,
    /// `[1]`, or `[heads]` for a gate a head.
    pub gate: Param<Tensor<1>>,
    /// `[1]`, multiplies the activated gates.
    pub factor: Option<Param<Tensor<1>>>,
}

impl AdaptionPromptConfig {
    /// Fresh prompts for a model, drawn from `seed`: the same on every device.
    ///
    /// On an autodiff device they can be trained.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, model: &LlamaConfig, seed: u64, device: &Device) -> Result<AdaptionPrompt> {
        self.validate(model.n_layers)?;
        let indices = self.layers.indices(model.n_layers)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normals = |count: usize, std: f64| {
            let draw = |_| {
                let normal: f32 = StandardNormal.sample(&mut rng);
                normal * std as f32
            };
            (0..count).map(draw).collect::<Vec<_>>()
        };
        let layers = indices.iter().map(|_| {
            let prompt = normals(self.adapter_len * model.d_model, self.init.prompt_std);
            let mut gate = vec![self.init.gate as f32; self.gates_per_layer(model.n_heads)];
            if self.init.gate_std > 0.0 {
                let noise = normals(gate.len(), self.init.gate_std);
                gate.iter_mut().zip(noise).for_each(|(gate, noise)| *gate += noise);
            }
            let factor = self.factor.then_some(1.0);
            LayerPrompt::from_values(prompt, gate, factor, self.adapter_len, device)
        });
        let layers = layers.collect();
        Ok(AdaptionPrompt::new(self.clone(), indices, layers))
    }
}

impl LayerPrompt {
    pub(crate) fn from_values(
        prompt: Vec<f32>,
        gate: Vec<f32>,
        factor: Option<f32>,
        adapter_len: usize,
        device: &Device,
    ) -> Self {
        let d_model = prompt.len() / adapter_len;
        let gates = gate.len();
        let prompt = TensorData::new(prompt, [adapter_len, d_model]);
        let gate = TensorData::new(gate, [gates]);
        let factor = factor.map(|factor| TensorData::new(vec![factor], [1]));
        Self {
            prompt: Param::from_data(prompt, device),
            gate: Param::from_data(gate, device),
            factor: factor.map(|factor| Param::from_data(factor, device)),
        }
    }

    /// What the branch is multiplied by, `[1, heads or 1, 1, 1]`.
    fn activated(&self, activation: GateActivation) -> Tensor<4> {
        let gate = activated(&self.gate.val(), activation);
        match &self.factor {
            Some(factor) => gate * factor.val().reshape([1, 1, 1, 1]),
            None => gate,
        }
    }
}

/// Gates as they multiply, `[gates] -> [1, gates, 1, 1]`.
pub(crate) fn activated(gate: &Tensor<1>, activation: GateActivation) -> Tensor<4> {
    let [gates] = gate.dims();
    let gate = gate.clone().reshape([1, gates, 1, 1]);
    match activation {
        GateActivation::Identity => gate,
        GateActivation::Tanh => gate.tanh(),
    }
}

impl AdaptionPrompt {
    pub(crate) fn new(
        config: AdaptionPromptConfig,
        indices: Vec<usize>,
        layers: Vec<LayerPrompt>,
    ) -> Self {
        Self { layers, config, indices }
    }

    /// Shape, gate and start.
    pub fn config(&self) -> &AdaptionPromptConfig {
        &self.config
    }

    /// Indices of the adapted layers in the model, in rising order.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Projects the prompts of some layers through a model's weights as `change` leaves them, to
    /// join its passes; each row's with the picture that it sees, where `sight` has one for it.
    ///
    /// While training, do it again in every step: the result holds the step's graph. To answer,
    /// do it once and keep it beside the decoding state. It costs
    /// `2 * adapter_len * d_model * kv_heads * head_dim` multiplications a layer.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn project(
        &self,
        llama: &Llama,
        change: &dyn Adapter,
        sight: Option<&ImageFeatures>,
        wanted: impl Fn(usize) -> bool,
    ) -> ProjectedPrompts {
        let change = match self.config.projection {
            PromptProjection::Adapted => change,
            PromptProjection::Frozen => &NoAdapter,
        };
        let own = self.indices.iter().zip(&self.layers).filter(|(index, _)| wanted(**index));
        let branches = own.map(|(&index, own)| {
            let attention = &llama.layers[index].attention;
            let prompt = own.prompt.val().unsqueeze();
            let prompt = match sight {
                Some(sight) => sight.add_to_prompt(prompt),
                None => prompt,
            };
            let PromptKv { key, value } = attention.project_prompt(index, prompt, change);
            let (key, value) = match sight {
                Some(sight) => (sight.gather_rows(key), sight.gather_rows(value)),
                None => (key, value),
            };
            let gate = own.activated(self.config.activation);
            (index, GatedPrompt { key, value, gate, lens: None })
        });
        branches.collect()
    }

    /// The same prompts starting from rows of a model's embedding table, such as a text's tokens:
    /// each layer's prompt is those rows, again from the first where they are fewer.
    ///
    /// # Errors
    /// [`llama::Error::TokenId`] for an id outside the vocabulary; [`llama::Error::Device`].
    ///
    /// # Panics
    /// If there are no tokens.
    pub fn with_token_embeddings(mut self, llama: &Llama, tokens: &[u32]) -> Result<Self> {
        assert!(!tokens.is_empty(), "a text has tokens");
        let ids = tokens.iter().copied().cycle().take(self.config.adapter_len);
        let ids = llama.tokens(&[ids.collect()])?.squeeze_dim::<1>(0);
        let rows = read_back(llama.embedding.select(ids))?;
        for layer in &mut self.layers {
            layer.prompt = Param::from_data(rows.clone(), &layer.prompt.val().device());
        }
        Ok(self)
    }
}
