//! A tiny Llama with weights large enough that every position and layer matters.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use checkpoint::TensorSource;
use llama::architecture::ARCHITECTURES;
use llama::config::{Architecture, RopeConfig, RopeScaling};
use llama::weights;
use llama::{Llama, LlamaConfig, Precision};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Vocabulary of [`config`].
pub const VOCAB: usize = 128;

/// Three layers, four heads in two groups, 64 positions.
pub fn config() -> LlamaConfig {
    LlamaConfig {
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        d_model: 32,
        d_ff: 48,
        vocab_size: VOCAB,
        max_positions: 64,
        norm_eps: 1e-5,
        rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
        ..LlamaConfig::default()
    }
}

/// The config as it is, and with a window of 8 positions.
pub fn windows() -> [LlamaConfig; 2] {
    [config(), LlamaConfig { sliding_window: Some(8), ..config() }]
}

/// The same sizes in every family, with windows where a family has them.
pub fn configs() -> Vec<LlamaConfig> {
    ARCHITECTURES.iter().map(|family| family_config(family)).chain(windows()).collect()
}

/// The same sizes in a family.
pub fn family_config(family: &Architecture) -> LlamaConfig {
    let base = family.defaults();
    let config = sized(base);
    match family.name {
        // All heads have keys of their own, and the head is the embedding.
        "gpt2" => LlamaConfig { n_kv_heads: config.n_heads, ..config },
        "mistral" => LlamaConfig { sliding_window: Some(8), ..config },
        "qwen2" => LlamaConfig { sliding_window: Some(6), full_attention_layers: 1, ..config },
        "qwen3" => LlamaConfig { head_dim: 16, ..config },
        _ => config,
    }
}

fn sized(base: LlamaConfig) -> LlamaConfig {
    let LlamaConfig {
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        d_model,
        d_ff,
        vocab_size,
        max_positions,
        ..
    } = config();
    LlamaConfig {
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        d_model,
        d_ff,
        vocab_size,
        max_positions,
        ..base
    }
}

/// The same model at every call.
pub fn model(config: LlamaConfig, device: &Device) -> Llama {
    model_with_precision(Precision::F32, config, device)
}

/// The same with its matrices in `precision`.
pub fn model_with_precision(precision: Precision, config: LlamaConfig, device: &Device) -> Llama {
    weights::load(config.clone(), &SeededWeights::new(&config), precision, device).unwrap()
}

/// `len` token ids of the vocabulary, fixed by `seed`.
pub fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(0..VOCAB as u32)).collect()
}

/// Weights drawn evenly from -0.35 to 0.35, a standard deviation of 0.2.
pub struct SeededWeights {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl SeededWeights {
    /// The weights of a model of this config.
    pub fn new(config: &LlamaConfig) -> Self {
        let specs = weights::expected_tensors(config);
        Self { shapes: specs.into_iter().map(|spec| (spec.name, spec.shape)).collect() }
    }
}

impl TensorSource for SeededWeights {
    fn path(&self) -> &Path {
        Path::new("tiny")
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        let shape = self.shapes[name].clone();
        let seed = self.shapes.keys().position(|key| key == name).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let shift = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values = (0..shape.iter().product::<usize>())
            .map(|_| rng.random_range(-0.35_f32..0.35) + shift)
            .collect::<Vec<_>>();
        Ok(TensorData::new(values, shape))
    }
}
