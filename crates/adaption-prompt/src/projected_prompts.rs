//! Prompts as a model's forward pass takes them: keys, values, activated gates.
//!
//! A layer may have several branches, whose outputs are added. Branches of several rows are stacked into
//! one for the whole batch.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::Tensor;
use llama::GatedPrompt;

/// Gated prompts by layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProjectedPrompts {
    layers: BTreeMap<usize, Vec<GatedPrompt>>,
}

impl FromIterator<(usize, GatedPrompt)> for ProjectedPrompts {
    fn from_iter<I: IntoIterator<Item = (usize, GatedPrompt)>>(branches: I) -> Self {
        let mut layers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (layer, branch) in branches {
            layers.entry(layer).or_default().push(branch);
        }
        Self { layers }
    }
}

impl ProjectedPrompts {
    /// The prompts of a layer.
    pub fn layer(&self, layer: usize) -> &[GatedPrompt] {
        self.layers.get(&layer).map_or(&[], Vec::as_slice)
    }

    /// Size of all tensors in bytes.
    pub fn bytes(&self) -> usize {
        let branches = self.layers.values().flatten();
        let numbers = branches.map(|GatedPrompt { key, value, gate, .. }| {
            [key, value, gate].map(|own| own.dims().iter().product::<usize>()).iter().sum::<usize>()
        });
        numbers.sum::<usize>() * size_of::<f32>()
    }

    /// The same prompts with every gate multiplied by `weight`.
    pub fn scaled(mut self, weight: f64) -> Self {
        for branch in self.layers.values_mut().flatten() {
            branch.gate = branch.gate.clone() * weight;
        }
        self
    }

    /// The branches of both.
    pub fn merged_with(mut self, other: Self) -> Self {
        for (layer, branches) in other.layers {
            self.layers.entry(layer).or_default().extend(branches);
        }
        self
    }

    /// Prompts of a batch from the prompts of its rows.
    ///
    /// Shorter prompts are padded and masked. A row without a prompt gets a gate of 0.
    pub fn stack_rows(rows: &[&Self]) -> Self {
        let layers: BTreeSet<usize> =
            rows.iter().flat_map(|row| row.layers.keys()).copied().collect();
        let stacked = layers.into_iter().map(|layer| {
            let rows = rows.iter().map(|row| row.layer(layer)).collect::<Vec<_>>();
            let n_branches = rows.iter().map(|row| row.len()).max().unwrap_or(0);
            let branch = |branch| {
                stack_branches(&rows.iter().map(|row| row.get(branch)).collect::<Vec<_>>())
            };
            (layer, (0..n_branches).map(branch).collect())
        });
        Self { layers: stacked.collect() }
    }
}

/// One branch for a batch of rows. Some rows may have none.
fn stack_branches(rows: &[Option<&GatedPrompt>]) -> GatedPrompt {
    let present = rows.iter().flatten();
    let first = present.clone().next().expect("at least one row has the branch");
    let [_one, kv_heads, _prompt, head_dim] = first.key.dims();
    let device = &first.key.device();
    let length = |row: &GatedPrompt| {
        let [_one, _kv_heads, prompt, _head_dim] = row.key.dims();
        prompt
    };
    let heads = |row: &GatedPrompt| {
        let [_one, gates, _, _] = row.gate.dims();
        gates
    };
    let longest = present.clone().map(|row| length(row)).max().unwrap_or(0);
    let gates = present.clone().map(|row| heads(row)).max().unwrap_or(1);
    let zeros = |prompt| Tensor::<4>::zeros([1, kv_heads, prompt, head_dim], device);
    let padded = |own: &dyn Fn(&GatedPrompt) -> Tensor<4>| {
        let rows = rows.iter().map(|row| match row {
            Some(row) if length(row) == longest => own(row),
            Some(row) => Tensor::cat(vec![own(row), zeros(longest - length(row))], 2),
            None => zeros(longest),
        });
        Tensor::cat(rows.collect(), 0)
    };
    let gate = rows.iter().map(|row| match row {
        Some(row) => row.gate.clone().expand([1, gates, 1, 1]),
        None => Tensor::zeros([1, gates, 1, 1], device),
    });
    let lengths = rows.iter().map(|row| row.map_or(longest, length)).collect::<Vec<_>>();
    GatedPrompt {
        key: padded(&|prompt| prompt.key.clone()),
        value: padded(&|prompt| prompt.value.clone()),
        gate: Tensor::cat(gate.collect(), 0),
        lens: lengths.iter().any(|&length| length < longest).then_some(lengths),
    }
}
