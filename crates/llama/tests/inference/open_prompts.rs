//! Gated prompts with open gates for single sequences, as an adapter of the model's hooks.

use burn::tensor::{Device, Tensor, TensorData};
use kernels::{AttentionDims, is_fused};
use llama::{Adapter, GatedPrompt, LlamaConfig, PackedPrompt, PromptTable};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An adapter by the seed of its prompts; `None`: the base model.
pub type Seed = Option<u64>;

/// The prompts of every sequence of a pass: layer `l` has `l` prompts.
pub struct OpenPrompts {
    /// Of each layer, with one batch for each sequence.
    stacked: Vec<Vec<GatedPrompt>>,
    /// Of each layer, on devices with fused kernels.
    tables: Option<Vec<PromptTable>>,
}

impl OpenPrompts {
    /// Prompts of sequences with these adapters.
    pub fn new(config: &LlamaConfig, sequences: &[Seed], device: &Device) -> Self {
        let layers = 0..config.n_layers;
        let stacked = layers.clone().map(|layer| {
            (0..layer).map(|number| stack(config, sequences, (layer, number), device)).collect()
        });
        let tables = is_fused(device)
            .then(|| layers.map(|layer| table(config, sequences, layer, device)).collect());
        Self { stacked: stacked.collect(), tables }
    }

    /// The same prompts without packed ones, so that the model packs them itself.
    pub fn unpacked(self) -> Self {
        Self { tables: None, ..self }
    }
}

impl Adapter for OpenPrompts {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        &self.stacked[layer]
    }

    fn prompt_table(&self, layer: usize) -> Option<&PromptTable> {
        self.tables.as_ref().map(|tables| &tables[layer])
    }
}

/// One prompt of a layer for each sequence; that of the base model has gates of zero.
fn stack(
    config: &LlamaConfig,
    sequences: &[Seed],
    place: (usize, usize),
    device: &Device,
) -> GatedPrompt {
    let prompts = sequences.iter().map(|seed| {
        if let Some(seed) = seed {
            return prompt(config, *seed, place, device);
        }
        let closed = prompt(config, 0, place, device);
        GatedPrompt { gate: closed.gate.zeros_like(), ..closed }
    });
    let prompts = prompts.collect::<Vec<_>>();
    let cat = |part: fn(&GatedPrompt) -> &Tensor<4>| {
        Tensor::cat(prompts.iter().map(|prompt| part(prompt).clone()).collect(), 0)
    };
    GatedPrompt {
        key: cat(|prompt| &prompt.key),
        value: cat(|prompt| &prompt.value),
        gate: cat(|prompt| &prompt.gate),
        lens: None,
    }
}

/// The distinct prompts of a layer, and those of each sequence.
fn table(config: &LlamaConfig, sequences: &[Seed], layer: usize, device: &Device) -> PromptTable {
    let heads = AttentionDims {
        heads: config.n_heads,
        kv_heads: config.n_kv_heads,
        head_dim: config.head_dim,
    };
    let mut distinct = sequences.iter().flatten().copied().collect::<Vec<_>>();
    distinct.sort_unstable();
    distinct.dedup();
    let prompts = distinct.iter().flat_map(|&seed| {
        (0..layer).flat_map(move |number| {
            PackedPrompt::new(&prompt(config, seed, (layer, number), device), heads)
        })
    });
    let of_sequence = sequences.iter().map(|seed| match seed {
        Some(seed) => {
            let index = distinct.binary_search(seed).unwrap() as u32;
            index * layer as u32..(index + 1) * layer as u32
        }
        None => 0..0,
    });
    PromptTable { prompts: prompts.collect(), of_sequence: of_sequence.collect() }
}

/// A prompt of a layer.
fn prompt(
    config: &LlamaConfig,
    seed: u64,
    (layer, number): (usize, usize),
    device: &Device,
) -> GatedPrompt {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((layer * 8 + number) as u64);
    let mut random = |dims: [usize; 4]| {
        let len = dims.iter().product::<usize>();
        let values = (0..len).map(|_| rng.random_range(-1.5_f32..1.5)).collect::<Vec<_>>();
        Tensor::<4>::from_data(TensorData::new(values, dims), device)
    };
    let LlamaConfig { n_heads, n_kv_heads, head_dim, .. } = *config;
    let len = 3 + 2 * number;
    GatedPrompt {
        key: random([1, n_kv_heads, len, head_dim]),
        value: random([1, n_kv_heads, len, head_dim]),
        gate: random([1, n_heads, 1, 1]),
        lens: None,
    }
}
