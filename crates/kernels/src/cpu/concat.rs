//! Weights whose outputs are concatenated, for example those of queries, keys and values.

use super::packed_matrix::PackedMatrix;

/// A weight and the position of its rows in the concatenation.
#[derive(Debug, Clone, Copy)]
pub(super) struct OffsetWeight<'a> {
    pub weight: &'a PackedMatrix,
    /// Column of the concatenated output that belongs to the weight's first row.
    pub column_offset: usize,
}

/// Each weight with its offset, and the width of the concatenated output.
///
/// # Panics
/// If the weights differ in their number of columns, or there are no weights.
pub(super) fn offset_weights<'a>(weights: &[&'a PackedMatrix]) -> (Vec<OffsetWeight<'a>>, usize) {
    let [_rows, columns] = weights.first().expect("there is a weight").dims();
    let mut width = 0;
    let weights = weights.iter().map(|weight| {
        let [rows, weight_columns] = weight.dims();
        assert_eq!(weight_columns, columns, "the weights differ in their number of columns");
        let offset_weight = OffsetWeight { weight, column_offset: width };
        width += rows;
        offset_weight
    });
    (weights.collect(), width)
}

/// Groups of at most `max_panels` panels of one weight, with the first panel and the end of each.
pub(super) fn panel_groups<'a>(
    weights: &[OffsetWeight<'a>],
    max_panels: usize,
) -> Vec<(OffsetWeight<'a>, [usize; 2])> {
    let groups = |weight: &OffsetWeight<'a>| {
        let (weight, panels) = (*weight, weight.weight.panels());
        (0..panels)
            .step_by(max_panels)
            .map(move |first| (weight, [first, panels.min(first + max_panels)]))
    };
    weights.iter().flat_map(groups).collect()
}
