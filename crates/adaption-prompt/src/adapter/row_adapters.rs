//! A batch in which each row has an adapter of its own, or none.

use burn::tensor::{Int, Tensor, TensorData};
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName};

use super::prepared::PreparedAdapter;
use crate::projected_prompts::ProjectedPrompts;

/// The adapter of each row of a batch. Each row's result is that of a batch of this row alone.
///
/// The prompts of all rows are one batch, whatever their lengths, layers and gates. Linear layers that an
/// adapter modifies are computed once per adapter.
#[derive(Debug, Clone)]
pub struct RowAdapters {
    prompts: ProjectedPrompts,
    groups: Vec<RowGroup>,
    batch: usize,
}

/// Rows with the same modifications of linear layers and norms.
#[derive(Debug, Clone)]
struct RowGroup {
    rows: Vec<usize>,
    adapter: Option<PreparedAdapter>,
}

impl RowAdapters {
    /// The adapters of the rows in order; `None` for the base model.
    pub fn new(rows: &[Option<&PreparedAdapter>]) -> Self {
        let none = PreparedAdapter::default();
        let prompts = rows.iter().map(|row| &row.unwrap_or(&none).prompts).collect::<Vec<_>>();
        let mut groups: Vec<(Option<&PreparedAdapter>, Vec<usize>)> = Vec::new();
        for (index, &row) in rows.iter().enumerate() {
            // Prompts are stacked by row: adapters without modifiers are in the base's group.
            let row = row.filter(|row| !row.modifiers.is_empty());
            let same = |other: Option<&PreparedAdapter>| match (row, other) {
                (Some(a), Some(b)) => std::ptr::eq(a, b),
                (None, None) => true,
                _ => false,
            };
            match groups.iter_mut().find(|(other, _)| same(*other)) {
                Some((_, rows)) => rows.push(index),
                None => groups.push((row, vec![index])),
            }
        }
        let group = |(adapter, rows): (Option<&PreparedAdapter>, _)| RowGroup {
            rows,
            adapter: adapter.cloned(),
        };
        Self {
            prompts: ProjectedPrompts::stack_rows(&prompts),
            groups: groups.into_iter().map(group).collect(),
            batch: rows.len(),
        }
    }

    /// # Panics
    /// If the batch has another number of rows.
    fn assert_batch_size(&self, batch: usize) {
        assert_eq!(batch, self.batch, "batch size does not match the row adapters");
    }

    /// Puts the rows of all groups into the order of the batch.
    fn gather_groups(&self, groups: Vec<Tensor<3>>) -> Tensor<3> {
        let joined = Tensor::cat(groups, 0);
        let order = self.groups.iter().flat_map(|group| group.rows.iter().copied());
        let mut positions = vec![0; self.batch];
        order.enumerate().for_each(|(position, row)| positions[row] = position);
        let index = index_tensor(&positions, &joined);
        joined.select(0, index)
    }
}

/// Row indices on the device of `reference`.
fn index_tensor(rows: &[usize], reference: &Tensor<3>) -> Tensor<1, Int> {
    let rows = rows.iter().map(|&row| row as i64).collect::<Vec<_>>();
    let count = rows.len();
    let device = reference.device().without_autodiff();
    Tensor::from_data(TensorData::new(rows, [count]), &device)
}

impl Adapter for RowAdapters {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        self.prompts.layer(layer)
    }

    /// # Panics
    /// If the batch has another number of rows.
    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        let [batch, _seq, _d_in] = input.dims();
        self.assert_batch_size(batch);
        let modified = |group: &RowGroup| {
            group.adapter.as_ref().is_some_and(|own| own.modifies_linear(layer, name))
        };
        if !self.groups.iter().any(modified) {
            return None;
        }
        if let [RowGroup { adapter: Some(adapter), .. }] = &self.groups[..] {
            return adapter.linear(layer, name, input, linear);
        }
        let outputs = self.groups.iter().map(|group| {
            let own = input.clone().select(0, index_tensor(&group.rows, input));
            let adapter = group.adapter.as_ref();
            let modified = adapter.and_then(|adapter| adapter.linear(layer, name, &own, linear));
            modified.unwrap_or_else(|| linear.forward(own))
        });
        Some(self.gather_groups(outputs.collect()))
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let own = |group: &RowGroup| group.adapter.as_ref()?.norm(layer, name, norm);
        let found = self.groups.iter().map(own).collect::<Vec<_>>();
        if found.iter().all(Option::is_none) {
            return None;
        }
        let base = norm.weights();
        let weights = found.into_iter().map(|own| own.unwrap_or_else(|| base.clone()));
        let weights = weights.collect::<Vec<_>>();
        let rows = |field: &dyn Fn(&NormWeights) -> Option<Tensor<3>>| {
            let groups = self.groups.iter().zip(&weights).map(|(group, weights)| {
                let own = field(weights)?;
                let [_one, _seq, d_model] = own.dims();
                Some(own.expand([group.rows.len(), 1, d_model]))
            });
            Some(self.gather_groups(groups.collect::<Option<Vec<_>>>()?))
        };
        let weight = rows(&|own| Some(own.weight.clone())).expect("every norm has a weight");
        Some(NormWeights { weight, bias: rows(&|own| own.bias.clone()) })
    }
}
