//! A packed pass of several sequences, each with an adapter of its own, or none.

use burn::tensor::Tensor;
use llama::model::{Linear, Norm, NormName, NormWeights};
use llama::{Adapter, LinearName};

use super::modifiers::Modifiers;
use super::prepared::PreparedAdapter;
use super::row_groups::RowGroups;

/// The adapters of a packed pass, whose sequences follow each other without padding:
/// `[1, rows of all sequences, width]`. Each row's result is, bit for bit, that of a pass of its sequence
/// alone.
///
/// For fused devices; [`RowAdapters`](crate::RowAdapters) is for batches on any device. A linear layer that
/// adapters modify is multiplied once with all rows; only the changes are computed once per adapter.
#[derive(Debug, Clone)]
pub struct PackedAdapters {
    /// The modifiers of each sequence.
    sequences: Vec<Modifiers>,
    rows: RowGroups,
    /// Whether the rows are one batch entry each, and not one after the other in a single one.
    is_selection: bool,
}

impl PackedAdapters {
    /// The adapter of each sequence, `None` for the base model, and its number of rows.
    ///
    /// # Panics
    /// If an adapter was prepared for another device, for training, or for several rows with images.
    pub fn new(sequences: &[(Option<&PreparedAdapter>, usize)]) -> Self {
        let none = PreparedAdapter::default();
        let adapters = sequences.iter().map(|(adapter, _)| adapter.unwrap_or(&none));
        let modifiers = adapters.map(|own| own.modifiers.clone()).collect::<Vec<_>>();
        let rows = modifiers.iter().zip(sequences).map(|(own, (_, rows))| (own, *rows));
        Self { rows: RowGroups::new(rows), sequences: modifiers, is_selection: false }
    }

    /// The adapters of selected rows, for the final norm and the output head: one row of each given
    /// sequence, `[selected, 1, width]`. A sequence may occur several times.
    ///
    /// # Panics
    /// If there is no such sequence.
    #[must_use]
    pub fn selecting(&self, sequences: &[usize]) -> Self {
        let sequences = sequences.iter().map(|&own| self.sequences[own].clone());
        let sequences = sequences.collect::<Vec<_>>();
        let rows = RowGroups::new(sequences.iter().map(|own| (own, 1)));
        Self { rows, sequences, is_selection: true }
    }
}

impl Adapter for PackedAdapters {
    /// # Panics
    /// If the number of rows is not that of all sequences.
    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        let [batch, seq, width] = input.dims();
        assert_eq!(batch * seq, self.rows.batch(), "the rows are not those of the sequences");
        let rows = input.clone().reshape([batch * seq, 1, width]);
        let output = self.rows.linear(layer, name, rows, linear)?;
        let [_rows, _one, width] = output.dims();
        Some(output.reshape([batch, seq, width]))
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let NormWeights { weight, bias } = self.rows.norm(layer, name, norm)?;
        let packed = |own: Tensor<3>| {
            let [rows, _one, d_model] = own.dims();
            if self.is_selection { own } else { own.reshape([1, rows, d_model]) }
        };
        Some(NormWeights { weight: packed(weight), bias: bias.map(packed) })
    }
}
