//! Rows of a batch in groups, one for each adapter that changes linear layers or norms.
//!
//! ```text
//! rows ─► in the order of the groups ─► one product with the layer ─► each group's change ─► in their order
//! ```
//!
//! A row's result does not depend on the adapters of the other rows.

use std::cell::LazyCell;
use std::iter::repeat_n;
use std::slice;

use burn::tensor::{Int, Tensor, TensorData};
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, LinearName};

use super::modifiers::{LinearChange, Modifiers};

/// The modifiers of each row of a batch.
#[derive(Debug, Clone)]
pub(super) struct RowGroups {
    groups: Vec<RowGroup>,
    /// The rows in the order of the groups.
    order: Vec<usize>,
    /// For each row its place in that order.
    places: Vec<usize>,
}

/// Rows with the same modifiers.
#[derive(Debug, Clone)]
struct RowGroup {
    rows: usize,
    modifiers: Modifiers,
}

impl RowGroups {
    /// Groups runs of rows, each with the modifiers of its rows and their number.
    pub fn new<'a>(runs: impl IntoIterator<Item = (&'a Modifiers, usize)>) -> Self {
        let mut groups: Vec<(&Modifiers, Vec<usize>)> = Vec::new();
        let mut count = 0;
        for (modifiers, rows) in runs.into_iter().filter(|(_, rows)| *rows > 0) {
            let rows = count..count + rows;
            count = rows.end;
            match groups.iter_mut().find(|(other, _)| modifiers.is_same(other)) {
                Some((_, own)) => own.extend(rows),
                None => groups.push((modifiers, rows.collect())),
            }
        }
        let order = groups.iter().flat_map(|(_, rows)| rows.iter().copied()).collect::<Vec<_>>();
        let mut places = vec![0; count];
        order.iter().enumerate().for_each(|(place, &row)| places[row] = place);
        let group = |(modifiers, rows): (&Modifiers, Vec<usize>)| RowGroup {
            rows: rows.len(),
            modifiers: modifiers.clone(),
        };
        Self { groups: groups.into_iter().map(group).collect(), order, places }
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.order.len()
    }

    /// Output of a linear layer; `None` if no row's adapter modifies it.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`
    pub fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        if !self.groups.iter().any(|group| group.modifiers.modifies_linear(layer, name)) {
            return None;
        }
        let outputs = if linear.weight.computes_rows_alone() {
            self.linear_of_groups(layer, name, input, linear)
        } else {
            self.linear_of_all_rows(layer, name, &input, linear)
        };
        Some(self.ungrouped(outputs))
    }

    /// Output of each group. Each row of the product is computed by itself, so a group's
    /// change is computed for its own rows.
    fn linear_of_groups(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        linear: &Linear,
    ) -> Vec<Tensor<3>> {
        let input = select_rows(input, &self.order);
        let inputs = input.clone().split_with_sizes(self.sizes().collect(), 0);
        let changes = self.groups.iter().zip(&inputs);
        let changes = changes
            .map(|(group, input)| group.modifiers.linear_change(layer, name, input))
            .collect::<Vec<_>>();
        let product = if changes.iter().flatten().all(LinearChange::keeps_input) {
            linear.forward(input)
        } else {
            let layer_inputs = changes.iter().zip(&inputs).flat_map(|(change, input)| {
                change.as_ref().map_or(slice::from_ref(input), LinearChange::layer_inputs)
            });
            linear.forward(Tensor::cat(layer_inputs.cloned().collect(), 0))
        };
        // The number of products of each group.
        let counts =
            changes.iter().map(|own| own.as_ref().map_or(1, |own| own.layer_inputs().len()));
        let counts = counts.collect::<Vec<_>>();
        let sizes = self.sizes().zip(&counts).flat_map(|(size, &count)| repeat_n(size, count));
        let mut products = product.split_with_sizes(sizes.collect(), 0).into_iter();
        let outputs = changes.into_iter().zip(counts).map(|(change, count)| {
            let mut products = products.by_ref().take(count).collect::<Vec<_>>();
            match change {
                Some(change) => change.output(&products),
                None => products.remove(0),
            }
        });
        outputs.collect()
    }

    /// As [`linear_of_groups`](Self::linear_of_groups), with each group's change computed for all rows. On
    /// other devices a product may depend on the number of its rows, and a row's result must not depend on
    /// how many other rows have its adapter.
    fn linear_of_all_rows(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Vec<Tensor<3>> {
        let base = LazyCell::new(|| linear.forward(input.clone()));
        let mut first = 0;
        let outputs = self.groups.iter().map(|group| {
            let output = match group.modifiers.linear_change(layer, name, input) {
                None => LazyCell::force(&base).clone(),
                Some(change) if change.keeps_input() => change.output(slice::from_ref(&base)),
                Some(change) => {
                    let inputs = change.layer_inputs().iter();
                    let products = inputs.map(|own| linear.forward(own.clone()));
                    let products = products.collect::<Vec<_>>();
                    change.output(&products)
                }
            };
            let rows = &self.order[first..][..group.rows];
            first += group.rows;
            select_rows(output, rows)
        });
        outputs.collect()
    }

    /// Weights of a norm by row, `[batch, 1, d_model]`; `None` if no row's adapter replaces them.
    pub fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let own = |group: &RowGroup| group.modifiers.norm(layer, name, norm);
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
                Some(own.expand([group.rows, 1, d_model]))
            });
            Some(self.ungrouped(groups.collect::<Option<Vec<_>>>()?))
        };
        let weight = rows(&|own| Some(own.weight.clone())).expect("every norm has a weight");
        Some(NormWeights { weight, bias: rows(&|own| own.bias.clone()) })
    }

    /// Number of rows of each group.
    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().map(|group| group.rows)
    }

    /// The rows of all groups in the order of the batch.
    fn ungrouped(&self, groups: Vec<Tensor<3>>) -> Tensor<3> {
        select_rows(Tensor::cat(groups, 0), &self.places)
    }
}

/// The given rows, in their order.
fn select_rows(from: Tensor<3>, rows: &[usize]) -> Tensor<3> {
    let [count, _seq, _width] = from.dims();
    if rows.iter().copied().eq(0..count) {
        return from;
    }
    let device = from.device().without_autodiff();
    let rows = rows.iter().map(|&row| row as i64).collect::<Vec<_>>();
    let count = rows.len();
    let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(rows, [count]), &device);
    from.select(0, rows)
}
