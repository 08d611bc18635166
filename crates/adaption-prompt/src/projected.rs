//! Prompts ready to join a model's passes: keys and values, gates activated.
//!
//! They add up: several branches a layer are a mix of adapters, and branches of several rows stack
//! into one product for a whole batch.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};
use llama::PromptKv;

/// Gated prompts of some layers, as keys and values.
#[derive(Debug, Clone, Default)]
pub struct ProjectedPrompts {
    layers: BTreeMap<usize, Vec<Branch>>,
}

/// One gated prompt of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    prompt: PromptKv,
    /// Added to the scores where rows have prompts of different lengths, `[batch, 1, 1, prompt]`.
    mask: Option<Tensor<4>>,
    /// `[batch or 1, heads or 1, 1, 1]`
    gate: Tensor<4>,
}

impl FromIterator<(usize, Branch)> for ProjectedPrompts {
    fn from_iter<I: IntoIterator<Item = (usize, Branch)>>(branches: I) -> Self {
        let mut layers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (layer, branch) in branches {
            layers.entry(layer).or_default().push(branch);
        }
        Self { layers }
    }
}

impl ProjectedPrompts {
    /// What the prompts of a layer add to its heads, or nothing.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`, rotary embedding applied
    pub fn attention(&self, layer: usize, query: &Tensor<4>) -> Option<Tensor<4>> {
        let branches = self.layers.get(&layer)?.iter();
        branches.map(|branch| branch.forward(query.clone())).reduce(|sum, branch| sum + branch)
    }

    /// The same prompts with every gate multiplied by `weight`.
    pub(crate) fn weighted(mut self, weight: f64) -> Self {
        for branch in self.layers.values_mut().flatten() {
            branch.gate = branch.gate.clone() * weight;
        }
        self
    }

    /// Both, their branches added.
    pub(crate) fn plus(mut self, other: Self) -> Self {
        for (layer, branches) in other.layers {
            self.layers.entry(layer).or_default().extend(branches);
        }
        self
    }

    /// Prompts of a batch, each row with its own or none.
    ///
    /// Shorter prompts are filled up and masked; a row without one has a gate of 0.
    pub(crate) fn stack(rows: &[&Self]) -> Self {
        let layers: BTreeSet<usize> =
            rows.iter().flat_map(|row| row.layers.keys()).copied().collect();
        let stacked = layers.into_iter().map(|layer| {
            let rows = rows.iter().map(|row| row.layers.get(&layer).map_or(&[][..], Vec::as_slice));
            let rows = rows.collect::<Vec<_>>();
            let slots = rows.iter().map(|row| row.len()).max().unwrap_or(0);
            let slot =
                |slot| Branch::stack(&rows.iter().map(|row| row.get(slot)).collect::<Vec<_>>());
            (layer, (0..slots).map(slot).collect())
        });
        Self { layers: stacked.collect() }
    }
}

impl Branch {
    pub fn new(prompt: PromptKv, gate: Tensor<4>) -> Self {
        Self { prompt, mask: None, gate }
    }

    /// What the prompt adds to the heads: attention to the prompt alone, softmax in f32, no mask
    /// but for fillers, times the gate.
    ///
    /// # Shapes
    /// - `query` and output: `[batch, heads, seq, head_dim]`, rotary embedding applied
    ///
    /// Source: arXiv 2303.16199, equations 5 to 8.
    fn forward(&self, query: Tensor<4>) -> Tensor<4> {
        let [batch, heads, seq, head_dim] = query.dims();
        let PromptKv { key, value } = &self.prompt;
        let [_one, kv_heads, prompt, _head_dim] = key.dims();
        // Transposed before it is repeated over the batch, not after: the backward pass then sums
        // over the batch what lies in memory as it is indexed. cubek-reduce 0.3.1 adds up the wrong
        // numbers of a transposed tensor, on every GPU backend (`sum_dim` and its like over a
        // leading dimension; `generate_vector_size` there goes on behind the first axis that differs).
        let key = key.clone().transpose().expand([batch, kv_heads, head_dim, prompt]);
        let value = value.clone().expand([batch, kv_heads, prompt, head_dim]);
        // The query heads of a group share a key head: they become rows of one product.
        let query = query.reshape([batch, kv_heads, heads / kv_heads * seq, head_dim]);
        let mut scores = query.matmul(key) / (head_dim as f64).sqrt();
        if let Some(mask) = &self.mask {
            scores = scores + mask.clone();
        }
        let attended = softmax(scores, 3).matmul(value);
        attended.reshape([batch, heads, seq, head_dim]) * self.gate.clone()
    }

    /// One branch for a batch of rows, some of which may have none.
    fn stack(rows: &[Option<&Self>]) -> Self {
        /// Far below any score: its exponential is 0 beside that of a score.
        const FILLER: f32 = -1e30;
        let present = rows.iter().flatten();
        let first = present.clone().next().expect("a slot belongs to a row");
        let [_one, kv_heads, _prompt, head_dim] = first.prompt.key.dims();
        let device = &first.prompt.key.device();
        let length = |row: &Self| {
            let [_one, _kv_heads, prompt, _head_dim] = row.prompt.key.dims();
            prompt
        };
        let heads = |row: &Self| {
            let [_one, gates, _, _] = row.gate.dims();
            gates
        };
        let longest = present.clone().map(|row| length(row)).max().unwrap_or(0);
        let gates = present.clone().map(|row| heads(row)).max().unwrap_or(1);
        let zeros = |prompt| Tensor::<4>::zeros([1, kv_heads, prompt, head_dim], device);
        let filled = |own: &dyn Fn(&PromptKv) -> Tensor<4>| {
            let rows = rows.iter().map(|row| match row {
                Some(row) if length(row) == longest => own(&row.prompt),
                Some(row) => Tensor::cat(vec![own(&row.prompt), zeros(longest - length(row))], 2),
                None => zeros(longest),
            });
            Tensor::cat(rows.collect(), 0)
        };
        let gate = rows.iter().map(|row| match row {
            Some(row) => row.gate.clone().expand([1, gates, 1, 1]),
            None => Tensor::zeros([1, gates, 1, 1], device),
        });
        let lengths = rows.iter().map(|row| row.map_or(longest, length)).collect::<Vec<_>>();
        let mask = (lengths.iter().any(|&length| length < longest))
            .then(|| mask(&lengths, longest, FILLER, device));
        Self {
            prompt: PromptKv {
                key: filled(&|prompt| prompt.key.clone()),
                value: filled(&|prompt| prompt.value.clone()),
            },
            mask,
            gate: Tensor::cat(gate.collect(), 0),
        }
    }
}

/// 0 for a row's own prompt, `filler` behind it, `[batch, 1, 1, longest]`.
fn mask(lengths: &[usize], longest: usize, filler: f32, device: &Device) -> Tensor<4> {
    let values = lengths
        .iter()
        .flat_map(|&length| (0..longest).map(move |slot| if slot < length { 0.0 } else { filler }))
        .collect::<Vec<_>>();
    let data = TensorData::new(values, [lengths.len(), 1, 1, longest]);
    Tensor::from_data(data, &device.clone().without_autodiff())
}
