//! The right matrix of a GEMM in bf16, in panels of 16 columns: `[panel][pair][16][2]`, a pair
//! being two neighbors of the inner dimension. This layout is called VNNI.
//!
//! ```text
//! W in panels [column][16 rows] ─┬─► x · Wᵀ: the inner dimension is W's columns:
//!                                │     two columns of 16 are interleaved into 16 pairs
//!                                └─► dy · W: the inner dimension is W's rows:
//!                                      a column of 16 is 8 pairs; 16 columns are transposed
//! ```
//!
//! A task packs its panels once for all rows of the batch.

use half::bf16;

use super::super::concat::OffsetWeight;
use super::super::packed_matrix::{PackedData, PackedMatrix};
use super::tile_kernel::{BLOCK_LEN, HALF_BLOCK_LEN, INNER_BLOCK, TileKernel};
use crate::sizes::PANEL;

/// The panels of one direction.
#[derive(Debug, Clone)]
pub struct VnniPanels<'a>(Source<'a>);

#[derive(Debug, Clone)]
enum Source<'a> {
    Forward(&'a PackedMatrix),
    /// Each panel of all weights: 16 of the inner dimension.
    Backward(Vec<(&'a PackedMatrix, usize)>),
}

impl<'a> VnniPanels<'a> {
    /// `Wᵀ` of one weight: the inner dimension is the weight's columns.
    pub fn forward(weight: &'a PackedMatrix) -> Self {
        Self(Source::Forward(weight))
    }

    /// `W` of concatenated weights: the inner dimension is the rows of all weights, each padded to
    /// a multiple of 16.
    pub fn backward(weights: &[OffsetWeight<'a>]) -> Self {
        let panels = |weight: &OffsetWeight<'a>| {
            let weight = weight.weight;
            (0..weight.panels()).map(move |panel| (weight, panel))
        };
        Self(Source::Backward(weights.iter().flat_map(panels).collect()))
    }

    /// Writes the blocks `from..end` of the inner dimension of the panels `first..last`, panel by
    /// panel.
    ///
    /// # Panics
    /// If `to` has another length, or a range is out of bounds.
    #[inline(always)]
    pub fn pack<T: TileKernel>(
        &self,
        tiles: &T,
        [first, last]: [usize; 2],
        [from, end]: [usize; 2],
        to: &mut [u16],
    ) {
        let panel_len = (end - from) * BLOCK_LEN;
        assert_eq!(to.len(), (last - first) * panel_len, "elements of all panels");
        match &self.0 {
            Source::Forward(weight) => {
                for (panel, to) in (first..last).zip(to.chunks_exact_mut(panel_len)) {
                    let columns = [from * INNER_BLOCK, end * INNER_BLOCK];
                    interleave_columns(panel_columns(weight, panel, columns), to);
                }
            }
            Source::Backward(panels) => {
                for half in 2 * from..2 * end {
                    let start = (half - 2 * from) * HALF_BLOCK_LEN;
                    for panel in first..last {
                        let to = &mut to[(panel - first) * panel_len + start..][..HALF_BLOCK_LEN];
                        let to = to.try_into().expect("half a block");
                        match panels.get(half) {
                            Some((weight, weight_panel)) => {
                                let columns = [panel * PANEL, (panel + 1) * PANEL];
                                let columns = panel_columns(weight, *weight_panel, columns);
                                transpose_rows(tiles, columns, to);
                            }
                            None => *to = [0; HALF_BLOCK_LEN],
                        }
                    }
                }
            }
        }
    }
}

/// The bits of columns `from..to` of a panel, as far as they exist.
fn panel_columns(weight: &PackedMatrix, panel: usize, [from, to]: [usize; 2]) -> &[u16] {
    let PackedData::Bf16(elements) = &weight.data else { unreachable!("the weight is in bf16") };
    let [_rows, columns] = weight.dims();
    let start = panel * columns;
    let elements: &[bf16] =
        &elements.as_slice()[(start + from) * PANEL..(start + to.min(columns)) * PANEL];
    bytemuck::cast_slice(elements)
}

/// Interleaves columns of a panel, `[column][16]`, into `[pair][16][2]`; missing columns are zeros.
#[inline(always)]
fn interleave_columns(from: &[u16], to: &mut [u16]) {
    let mut pairs = to.chunks_exact_mut(2 * PANEL);
    let mut columns = from.chunks_exact(2 * PANEL);
    for (columns, pairs) in columns.by_ref().zip(pairs.by_ref()) {
        let (first, second) = columns.split_at(PANEL);
        interleave([first, second], pairs);
    }
    if !columns.remainder().is_empty() {
        let pairs = pairs.next().expect("room for a pair");
        interleave([columns.remainder(), &[0; PANEL]], pairs);
    }
    pairs.for_each(|pairs| pairs.fill(0));
}

#[inline(always)]
fn interleave(columns: [&[u16]; 2], pairs: &mut [u16]) {
    // The compiler turns operations on arrays into vector instructions.
    let [first, second] = columns.map(|column| *<&[u16; PANEL]>::try_from(column).expect("16"));
    let interleaved: [[u16; 2]; PANEL] = std::array::from_fn(|i| [first[i], second[i]]);
    pairs.copy_from_slice(interleaved.as_flattened());
}

/// Transposes 16 columns of a panel, `[16][pair][2]`, into `[pair][16][2]`; missing columns are
/// zeros.
#[inline(always)]
fn transpose_rows<T: TileKernel>(tiles: &T, from: &[u16], to: &mut [u16; HALF_BLOCK_LEN]) {
    if let Ok(from) = from.try_into() {
        tiles.transpose_pairs(from, to);
    } else {
        let mut padded = [0; HALF_BLOCK_LEN];
        padded[..from.len()].copy_from_slice(from);
        tiles.transpose_pairs(&padded, to);
    }
}
