//! A batch in which each row has an adapter of its own, or none.

use burn::tensor::{Int, Tensor, TensorData};
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName};

use crate::prepared::PreparedAdapter;
use crate::projected::ProjectedPrompts;

/// Adapters of a batch, row by row. Each row comes out as if it were alone.
///
/// Prompts of all rows are one product, whatever their lengths, layers and gates. Linear layers
/// that an adapter changes are computed once for each adapter in the batch.
#[derive(Debug, Clone)]
pub struct RowAdapters {
    prompts: ProjectedPrompts,
    groups: Vec<Group>,
    batch: usize,
}

/// Rows that share what happens to their linear layers and norms.
#[derive(Debug, Clone)]
struct Group {
    rows: Vec<usize>,
    adapter: Option<PreparedAdapter>,
}

impl RowAdapters {
    /// Adapters of the rows, from the first to the last.
    pub fn new(rows: &[Option<&PreparedAdapter>]) -> Self {
        let none = PreparedAdapter::default();
        let prompts = rows.iter().map(|row| &row.unwrap_or(&none).prompts).collect::<Vec<_>>();
        let mut groups: Vec<(Option<&PreparedAdapter>, Vec<usize>)> = Vec::new();
        for (index, &row) in rows.iter().enumerate() {
            // Prompts are taken care of: without changes to linear layers rows are all alike.
            let row = row.filter(|row| !row.changes.is_empty());
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
        let group = |(adapter, rows): (Option<&PreparedAdapter>, _)| Group {
            rows,
            adapter: adapter.cloned(),
        };
        Self {
            prompts: ProjectedPrompts::stack(&prompts),
            groups: groups.into_iter().map(group).collect(),
            batch: rows.len(),
        }
    }

    /// # Panics
    /// If the batch has another number of rows.
    fn check(&self, batch: usize) {
        assert_eq!(batch, self.batch, "the adapters were chosen for another batch");
    }

    /// Joins what each group made of its rows, in the order of the batch.
    fn join(&self, parts: Vec<Tensor<3>>) -> Tensor<3> {
        let joined = Tensor::cat(parts, 0);
        let order = self.groups.iter().flat_map(|group| group.rows.iter().copied());
        let mut places = vec![0; self.batch];
        order.enumerate().for_each(|(place, row)| places[row] = place);
        let index = indices(&places, &joined);
        joined.select(0, index)
    }
}

/// Row numbers as a tensor where `like` is.
fn indices(rows: &[usize], like: &Tensor<3>) -> Tensor<1, Int> {
    let rows = rows.iter().map(|&row| row as i64).collect::<Vec<_>>();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), &like.device().without_autodiff())
}

impl Adapter for RowAdapters {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        self.prompts.of_layer(layer)
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
        self.check(batch);
        let changed = |group: &Group| {
            group.adapter.as_ref().is_some_and(|own| own.modifies_linear(layer, name))
        };
        if !self.groups.iter().any(changed) {
            return None;
        }
        if let [Group { adapter: Some(adapter), .. }] = &self.groups[..] {
            return adapter.linear(layer, name, input, linear);
        }
        let parts = self.groups.iter().map(|group| {
            let own = input.clone().select(0, indices(&group.rows, input));
            let adapter = group.adapter.as_ref();
            let changed = adapter.and_then(|adapter| adapter.linear(layer, name, &own, linear));
            changed.unwrap_or_else(|| linear.forward(own))
        });
        Some(self.join(parts.collect()))
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let own = |group: &Group| group.adapter.as_ref()?.norm(layer, name, norm);
        let found = self.groups.iter().map(own).collect::<Vec<_>>();
        if found.iter().all(Option::is_none) {
            return None;
        }
        let base = norm.weights();
        let weights = found.into_iter().map(|own| own.unwrap_or_else(|| base.clone()));
        let weights = weights.collect::<Vec<_>>();
        let rows = |part: &dyn Fn(&NormWeights) -> Option<Tensor<3>>| {
            let parts = self.groups.iter().zip(&weights).map(|(group, weights)| {
                let own = part(weights)?;
                let [_one, _seq, d_model] = own.dims();
                Some(own.expand([group.rows.len(), 1, d_model]))
            });
            Some(self.join(parts.collect::<Option<Vec<_>>>()?))
        };
        let weight = rows(&|own| Some(own.weight.clone())).expect("every norm has a weight");
        Some(NormWeights { weight, bias: rows(&|own| own.bias.clone()) })
    }
}
