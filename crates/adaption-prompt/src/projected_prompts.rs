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

    /// The layers that have prompts, in ascending order.
    pub fn layers(&self) -> impl Iterator<Item = (usize, &[GatedPrompt])> {
        self.layers.iter().map(|(&layer, branches)| (layer, &branches[..]))
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
    /// Prompts of different lengths are branches of their own, since a softmax over padding may round
    /// differently: a row's result must not depend on the prompts of the others. A row without a prompt gets
    /// a gate of 0.
    pub fn stack_rows(rows: &[&Self]) -> Self {
        let layers: BTreeSet<usize> =
            rows.iter().flat_map(|row| row.layers.keys()).copied().collect();
        let stacked = layers.into_iter().map(|layer| {
            let rows = rows.iter().map(|row| row.layer(layer)).collect::<Vec<_>>();
            let n_branches = rows.iter().map(|row| row.len()).max().unwrap_or(0);
            let branches = (0..n_branches).flat_map(|branch| {
                let rows = rows.iter().map(|row| row.get(branch)).collect::<Vec<_>>();
                let lens = rows.iter().flatten().map(|row| len(row)).collect::<BTreeSet<_>>();
                let of_len = move |own: usize| {
                    let rows = rows.iter().map(|row| row.filter(|row| len(row) == own));
                    stack_branches(&rows.collect::<Vec<_>>())
                };
                lens.into_iter().map(of_len)
            });
            (layer, branches.collect())
        });
        Self { layers: stacked.collect() }
    }
}

/// Prompt tokens.
fn len(branch: &GatedPrompt) -> usize {
    let [_rows, _kv_heads, prompt, _head_dim] = branch.key.dims();
    prompt
}

/// One branch for a batch of rows with prompts of one length. Some rows may have none.
fn stack_branches(rows: &[Option<&GatedPrompt>]) -> GatedPrompt {
    let present = rows.iter().flatten();
    let first = present.clone().next().expect("at least one row has the branch");
    let [_one, kv_heads, prompt, head_dim] = first.key.dims();
    let device = &first.key.device();
    let heads = |row: &GatedPrompt| {
        let [_one, gates, _, _] = row.gate.dims();
        gates
    };
    let gates = present.map(|row| heads(row)).max().unwrap_or(1);
    let stacked = |own: &dyn Fn(&GatedPrompt) -> Tensor<4>| {
        let rows = rows.iter().map(|row| match row {
            Some(row) => own(row),
            None => Tensor::zeros([1, kv_heads, prompt, head_dim], device),
        });
        Tensor::cat(rows.collect(), 0)
    };
    let gate = rows.iter().map(|row| match row {
        Some(row) => row.gate.clone().expand([1, gates, 1, 1]),
        None => Tensor::zeros([1, gates, 1, 1], device),
    });
    GatedPrompt {
        key: stacked(&|prompt| prompt.key.clone()),
        value: stacked(&|prompt| prompt.value.clone()),
        gate: Tensor::cat(gate.collect(), 0),
        lens: None,
    }
}
