//! prompt ─► frozen key and value projections ─┐
//! query ──────────────────────────────────────┴► softmax over the prompt ─► × gate ─► to heads
//!
//! The gate starts at zero: a fresh adapter changes nothing.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use llama::{Llama, LlamaConfig, NoAdapter};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::config::{Activation, AdaptionPromptConfig};
use crate::error::Result;
use crate::projected::{ProjectedLayer, ProjectedPrompts};

/// A LLaMA-Adapter: one gated prompt for each of a model's last layers, in f32.
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
    first_layer: usize,
}

/// What one layer learns.
#[derive(Module, Debug)]
pub struct LayerPrompt {
    /// `[prompt, d_model]`
    pub prompt: Param<Tensor<2>>,
    /// `[1]`, or `[heads]` for a gate a head.
    pub gate: Param<Tensor<1>>,
}

impl AdaptionPromptConfig {
    /// A fresh adapter for a model, drawn from `seed`: the same on every device.
    ///
    /// On an autodiff device it can be trained.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, model: &LlamaConfig, seed: u64, device: &Device) -> Result<AdaptionPrompt> {
        self.validate(model.n_layers)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let gates = self.gates(model.n_heads);
        let layers = (0..self.adapter_layers)
            .map(|_| {
                let prompt = (0..self.adapter_len * model.d_model)
                    .map(|_| {
                        let normal: f32 = StandardNormal.sample(&mut rng);
                        normal * self.init.prompt_std as f32
                    })
                    .collect::<Vec<_>>();
                let gate = vec![self.init.gate as f32; gates];
                LayerPrompt::from_values(prompt, gate, self.adapter_len, device)
            })
            .collect();
        Ok(AdaptionPrompt::new(self.clone(), model, layers))
    }
}

impl LayerPrompt {
    pub(crate) fn from_values(
        prompt: Vec<f32>,
        gate: Vec<f32>,
        adapter_len: usize,
        device: &Device,
    ) -> Self {
        let d_model = prompt.len() / adapter_len;
        let gates = gate.len();
        let prompt = TensorData::new(prompt, [adapter_len, d_model]);
        let gate = TensorData::new(gate, [gates]);
        Self { prompt: Param::from_data(prompt, device), gate: Param::from_data(gate, device) }
    }
}

impl AdaptionPrompt {
    pub(crate) fn new(
        config: AdaptionPromptConfig,
        model: &LlamaConfig,
        layers: Vec<LayerPrompt>,
    ) -> Self {
        let first_layer = model.n_layers - config.adapter_layers;
        Self { layers, config, first_layer }
    }

    /// Shape, gate and start.
    pub fn config(&self) -> &AdaptionPromptConfig {
        &self.config
    }

    /// Index of the first adapted layer of the model.
    pub fn first_layer(&self) -> usize {
        self.first_layer
    }

    /// Projects the prompts through a model's frozen weights, to join its passes.
    ///
    /// While training, do it again in every step: the result holds the step's graph. To answer,
    /// do it once and keep it beside the decoding state. On the device of the adapter's own
    /// tensors it costs `2 * adapter_len * d_model * kv_heads * head_dim` multiplications a layer.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn project(&self, llama: &Llama) -> ProjectedPrompts {
        let layers =
            (self.first_layer..llama.layers.len()).map(|index| self.projected(index, llama));
        ProjectedPrompts::new(self.first_layer, layers.collect())
    }

    /// As [`project`](Self::project), for one layer of the model; a layer that has no prompt gets
    /// what changes nothing.
    ///
    /// # Panics
    /// If the adapter was made for a model of other sizes.
    pub fn project_layer(&self, index: usize, llama: &Llama) -> ProjectedPrompts {
        let adapted = (self.first_layer..llama.layers.len()).contains(&index);
        let layer = adapted.then(|| self.projected(index, llama));
        ProjectedPrompts::new(index, layer.into_iter().collect())
    }

    fn projected(&self, index: usize, llama: &Llama) -> ProjectedLayer {
        let own = &self.layers[index - self.first_layer];
        let gate = own.gate.val();
        let [gates] = gate.dims();
        let gate = match self.config.activation {
            Activation::Identity => gate,
            Activation::Tanh => gate.tanh(),
        };
        let prompt = own.prompt.val().unsqueeze();
        ProjectedLayer {
            prompt: llama.layers[index].attention.project_prompt(index, prompt, &NoAdapter),
            gate: gate.reshape([1, gates, 1, 1]),
        }
    }

    /// Whether its numbers are usable: none is NaN, and no layer's sum passes what f32 can hold.
    pub fn is_finite(&self) -> bool {
        self.layers.iter().all(|layer| {
            let sum = layer.prompt.val().abs().sum() + layer.gate.val().abs().sum();
            sum.into_scalar::<f32>().is_finite()
        })
    }

    /// Numbers that training changes.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }
}
