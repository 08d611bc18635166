//! Gradients of an adapter ─► clipped ─► AdamW ─► the next adapter

use adaption_prompt::{AdaptionPrompt, LayerPrompt};
use burn::module::{Module, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer};
use burn::tensor::{Gradients, Tensor};
use llama::Llama;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::Result;
use crate::recompute::{LayerwiseAdapter, recompute};

/// Settings of AdamW. The defaults are the original release's, with PyTorch's epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of a weight taken away in a step, times the learning rate.
    pub weight_decay: f32,
    /// Largest norm of all gradients together; larger ones are scaled down.
    pub clip: Option<f64>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.95, epsilon: 1e-8, weight_decay: 0.02, clip: None }
    }
}

/// Gradients of an adapter, layer by layer.
#[derive(Debug, Clone)]
pub struct AdapterGradients {
    layers: Vec<(Tensor<2>, Tensor<1>)>,
}

impl AdapterGradients {
    /// Takes the adapter's gradients out of a backward pass.
    ///
    /// # Panics
    /// If the adapter took no part in it.
    pub fn take(adapter: &AdaptionPrompt, mut gradients: Gradients) -> Self {
        let take = |layer| Self::take_layer(layer, &mut gradients);
        Self { layers: adapter.layers.iter().map(take).collect() }
    }

    /// Takes the gradients layer by layer, with one layer's graph in memory at a time, and gives
    /// them with the loss, as [`recompute`] does.
    ///
    /// # Errors
    /// As [`recompute`].
    pub fn recompute(
        llama: &Llama,
        adapter: &AdaptionPrompt,
        batch: &Batch,
        labels: usize,
    ) -> Result<(f64, Self)> {
        let first_layer = adapter.first_layer();
        let layerwise = LayerwiseAdapter {
            first_layer,
            plain: &adapter.valid().project(llama),
            layer: &|index| Box::new(adapter.project_layer(index, llama)),
        };
        let mut layers = Vec::with_capacity(adapter.layers.len());
        let loss = recompute(llama, batch, labels, &layerwise, &mut |index, gradients| {
            if let Some(layer) = adapter.layers.get(index - first_layer) {
                layers.push(Self::take_layer(layer, gradients));
            }
        })?;
        layers.reverse();
        Ok((loss, Self { layers }))
    }

    fn take_layer(layer: &LayerPrompt, gradients: &mut Gradients) -> (Tensor<2>, Tensor<1>) {
        let prompt = layer.prompt.val().grad_remove(gradients);
        let gate = layer.gate.val().grad_remove(gradients);
        prompt.zip(gate).expect("the adapter took part in the pass")
    }

    /// The sum of two passes' gradients.
    pub fn plus(self, other: Self) -> Self {
        let layers = self
            .layers
            .into_iter()
            .zip(other.layers)
            .map(|((prompt, gate), other)| (prompt + other.0, gate + other.1))
            .collect();
        Self { layers }
    }

    /// Gradient of each layer's prompt and gate.
    pub fn layers(&self) -> &[(Tensor<2>, Tensor<1>)] {
        &self.layers
    }

    /// Euclidean norm over all of them.
    pub fn norm(&self) -> f64 {
        let squares = self
            .layers
            .iter()
            .map(|(prompt, gate)| prompt.clone().square().sum() + gate.clone().square().sum());
        let sum = squares.reduce(|a, b| a + b).expect("an adapter has layers");
        f64::from(sum.into_scalar::<f32>()).sqrt()
    }

    fn scale(self, factor: f64) -> Self {
        let scaled = |(prompt, gate): (Tensor<2>, Tensor<1>)| (prompt * factor, gate * factor);
        Self { layers: self.layers.into_iter().map(scaled).collect() }
    }
}

/// AdamW over an adapter's layers, with its state in the open so that a checkpoint can hold it.
#[derive(Clone)]
pub struct AdapterOptimizer {
    adamw: AdamW,
    clip: Option<f64>,
    pub(crate) state: Vec<(Option<AdamWState<2>>, Option<AdamWState<1>>)>,
}

impl AdapterOptimizer {
    /// A fresh optimizer for an adapter of `n_layers` layers.
    pub fn new(config: &OptimizerConfig, n_layers: usize) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta_1)
            .with_beta_2(config.beta_2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(config.weight_decay)
            .build();
        Self { adamw, clip: config.clip, state: vec![(None, None); n_layers] }
    }

    /// One step. `norm` is the gradients' own, which the caller has looked at already.
    ///
    /// Source: arXiv 1711.05101.
    pub fn step(
        &mut self,
        mut adapter: AdaptionPrompt,
        gradients: AdapterGradients,
        norm: f64,
        rate: f64,
    ) -> AdaptionPrompt {
        let gradients = match self.clip {
            Some(clip) if norm > clip => gradients.scale(clip / norm),
            _ => gradients,
        };
        let layers = adapter.layers.iter_mut().zip(gradients.layers).zip(&mut self.state);
        for ((layer, (prompt, gate)), (prompt_state, gate_state)) in layers {
            let LayerPrompt { prompt: own_prompt, gate: own_gate } = layer;
            update(&self.adamw, own_prompt, prompt, prompt_state, rate);
            update(&self.adamw, own_gate, gate, gate_state, rate);
        }
        adapter
    }
}

fn update<const D: usize>(
    adamw: &AdamW,
    param: &mut Param<Tensor<D>>,
    gradient: Tensor<D>,
    state: &mut Option<AdamWState<D>>,
    rate: f64,
) {
    let (value, next) = adamw.step(rate, param.val().inner(), gradient, state.take());
    *state = next;
    *param = Param::from_tensor(value.autodiff());
}
