//! The right matrix of a GEMM in f32, in panels of 16 columns: `[panel][k][16]`, `k` the inner
//! dimension.
//!
//! ```text
//! W in panels [column][16 rows] ─┬─► x · Wᵀ: W's rows are the columns; W's panels are the panels
//!                                └─► dy · W: W's rows are the inner dimension; tiles of 16 x 16
//!                                            are transposed
//! ```

use super::concat::OffsetWeight;
use super::packed_matrix::PackedMatrix;
use super::simd::Simd;
use crate::sizes::PANEL;

/// Elements of 16 columns of 16 rows.
const TILE_LEN: usize = PANEL * PANEL;

/// What the panels are made from.
#[derive(Debug, Clone, Copy)]
pub(super) enum RhsPanels<'a> {
    /// `Wᵀ` of one weight: the inner dimension is the weight's columns.
    Forward(&'a PackedMatrix),
    /// `W` of concatenated weights: the inner dimension is the rows of all weights.
    Backward(&'a [OffsetWeight<'a>]),
}

impl RhsPanels<'_> {
    /// Columns of the right matrix.
    pub fn columns(&self) -> usize {
        match self {
            Self::Forward(weight) => weight.dims()[0],
            Self::Backward(weights) => weights[0].weight.dims()[1],
        }
    }

    /// A whole panel, if the weight stores it in the required form.
    pub fn unpacked_panel(&self, panel: usize) -> Option<*const f32> {
        match self {
            Self::Forward(weight) => weight.f32_panel(panel),
            Self::Backward(_) => None,
        }
    }

    /// Writes the block `inner[0]..inner[1]` of the inner dimension of the panels
    /// `panels[0]..panels[1]`, panel by panel.
    ///
    /// `inner[0]` is a multiple of 32, `panels[0]` of 2.
    ///
    /// # Panics
    /// If `to` has another length, or a range is out of bounds.
    #[inline(always)]
    pub fn pack<S: Simd>(&self, simd: S, panels: [usize; 2], inner: [usize; 2], to: &mut [f32]) {
        let len = (inner[1] - inner[0]) * PANEL;
        assert_eq!(to.len(), (panels[1] - panels[0]) * len, "elements of all panels");
        match self {
            Self::Forward(weight) => {
                for (panel, to) in (panels[0]..panels[1]).zip(to.chunks_exact_mut(len)) {
                    weight.unpack(simd, panel, inner, to);
                }
            }
            Self::Backward(weights) => {
                for OffsetWeight { weight, column_offset } in *weights {
                    let start = inner[0].max(*column_offset);
                    let end = inner[1].min(column_offset + weight.dims()[0]);
                    let mut k = start;
                    while k < end {
                        let row = k - column_offset;
                        let rows = (end - k).min(PANEL - row % PANEL);
                        let panel_rows = PanelRows { weight, row, rows };
                        panel_rows.pack(simd, panels, &mut to[(k - inner[0]) * PANEL..], len);
                        k += rows;
                    }
                }
            }
        }
    }
}

/// Rows of a weight that are in one of its panels.
struct PanelRows<'a> {
    weight: &'a PackedMatrix,
    row: usize,
    rows: usize,
}

impl PanelRows<'_> {
    /// Writes the rows for some panels of columns, which are `stride` elements apart.
    #[inline(always)]
    fn pack<S: Simd>(&self, simd: S, [first, last]: [usize; 2], to: &mut [f32], stride: usize) {
        let Self { weight, row, rows } = *self;
        let [_rows, columns] = weight.dims();
        // Two panels at a time: a quantized block may have 32 columns.
        for pair in (first..last).step_by(2) {
            let range = [pair * PANEL, columns.min((pair + 2).min(last) * PANEL)];
            let mut unpacked = [0.0; 2 * TILE_LEN];
            let whole = weight.panel_columns(simd, row / PANEL, range, &mut unpacked);
            for (panel, columns) in (pair..).zip(whole.chunks(TILE_LEN)) {
                let to = &mut to[(panel - first) * stride..][..rows * PANEL];
                let mut padded = [0.0; TILE_LEN];
                let columns = columns.try_into().unwrap_or_else(|_fewer| {
                    padded[..columns.len()].copy_from_slice(columns);
                    &padded
                });
                if let Ok(to) = to.try_into() {
                    simd.transpose_16x16(columns, to);
                } else {
                    let mut transposed = [0.0; TILE_LEN];
                    simd.transpose_16x16(columns, &mut transposed);
                    to.copy_from_slice(&transposed[row % PANEL * PANEL..][..to.len()]);
                }
            }
        }
    }
}
