//! Tiny models of every family, with seeded weights that are large enough for every position and layer to
//! affect the logits.
//!
//! For integration tests only: unit tests of `llama` are another build of that crate, with other types.

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

/// [`config`] without and with a sliding window of 8 positions.
pub fn window_configs() -> [LlamaConfig; 2] {
    [config(), LlamaConfig { sliding_window: Some(8), ..config() }]
}

/// Configs of these sizes in every family, and [`window_configs`].
pub fn configs() -> Vec<LlamaConfig> {
    ARCHITECTURES.iter().map(|family| family_config(family)).chain(window_configs()).collect()
}

/// A config of these sizes in one family, with a sliding window if the family has one.
pub fn family_config(family: &Architecture) -> LlamaConfig {
    let config = with_tiny_sizes(family.defaults());
    match family.name {
        // Multi-head attention and a tied head.
        "gpt2" => LlamaConfig { n_kv_heads: config.n_heads, ..config },
        "mistral" => LlamaConfig { sliding_window: Some(8), ..config },
        "qwen2" => LlamaConfig { sliding_window: Some(6), full_attention_layers: 1, ..config },
        "qwen3" => LlamaConfig { head_dim: 16, ..config },
        _ => config,
    }
}

fn with_tiny_sizes(defaults: LlamaConfig) -> LlamaConfig {
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
        ..defaults
    }
}

/// A model with [`SeededWeights`], in f32.
///
/// # Panics
/// If the config is invalid.
pub fn model(config: LlamaConfig, device: &Device) -> Llama {
    model_with_precision(Precision::F32, config, device)
}

/// A model with [`SeededWeights`] in `precision`.
///
/// # Panics
/// If the config is invalid or the device lacks the precision.
pub fn model_with_precision(precision: Precision, config: LlamaConfig, device: &Device) -> Llama {
    let source = SeededWeights::new(&config);
    weights::load(config, &source, precision, device).expect("a valid config")
}

/// `len` random token ids.
pub fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(0..VOCAB as u32)).collect()
}

/// Weights from U(-0.35, 0.35), a standard deviation of 0.2; norms and biases are shifted by 1.
#[derive(Debug)]
pub struct SeededWeights {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl SeededWeights {
    /// The weights of a model with this config.
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
        let seed = self.shapes.keys().position(|key| key == name).expect("it is in shapes");
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let shift = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values = (0..shape.iter().product::<usize>())
            .map(|_| rng.random_range(-0.35_f32..0.35) + shift)
            .collect::<Vec<_>>();
        Ok(TensorData::new(values, shape))
    }
}
