//! A batch in which each row has an adapter of its own, or none.

use burn::tensor::Tensor;
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, GatedPrompt, LinearName};

use super::prepared::PreparedAdapter;
use super::row_groups::RowGroups;
use crate::projected_prompts::ProjectedPrompts;

/// The adapter of each row of a batch. Each row's result is that of a batch of this row alone.
///
/// The prompts of all rows are one batch, whatever their lengths, layers and gates. A linear layer that
/// adapters modify is multiplied once with all rows; only the changes are computed once per adapter.
#[derive(Debug, Clone)]
pub struct RowAdapters {
    prompts: ProjectedPrompts,
    groups: RowGroups,
}

impl RowAdapters {
    /// The adapters of the rows in order; `None` for the base model.
    pub fn new(rows: &[Option<&PreparedAdapter>]) -> Self {
        let none = PreparedAdapter::default();
        let rows = rows.iter().map(|row| row.unwrap_or(&none)).collect::<Vec<_>>();
        let prompts = rows.iter().map(|row| &row.prompts).collect::<Vec<_>>();
        Self {
            prompts: ProjectedPrompts::stack_rows(&prompts),
            groups: RowGroups::new(rows.iter().map(|row| (&row.modifiers, 1))),
        }
    }
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
        assert_eq!(batch, self.groups.batch(), "batch size does not match the row adapters");
        self.groups.linear(layer, name, input.clone(), linear)
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        self.groups.norm(layer, name, norm)
    }
}
