//! The right side of a product: 16 of its columns at a time, as a line of 16 numbers for each term.
//!
//! ```text
//! W in panels [column][16 rows] ─┬─► x · Wᵀ: W's rows are columns here, a panel is what is wanted
//!                                └─► dy · W: W's rows are terms here: blocks of 16 x 16 turned over
//! ```

use super::packed::{PANEL, Packed};
use super::product::Place;
use super::simd::Simd;

/// Numbers of 16 terms of 16 columns.
const BLOCK: usize = PANEL * PANEL;

/// Where the lines come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Vectors<'a> {
    /// The weight's columns are the terms.
    Rows(&'a Packed),
    /// The rows of all weights are the terms.
    Columns(&'a [Place<'a>]),
}

impl Vectors<'_> {
    /// Columns of the product.
    pub fn columns(&self) -> usize {
        match self {
            Self::Rows(weight) => weight.dims()[0],
            Self::Columns(places) => places[0].weight.dims()[1],
        }
    }

    /// All lines of a vector, if the weight has them as they are wanted.
    pub fn unpacked_panel(&self, vector: usize) -> Option<*const f32> {
        match self {
            Self::Rows(weight) => weight.f32_panel(vector),
            Self::Columns(_) => None,
        }
    }

    /// Writes the lines of some terms for some vectors, one vector behind the other.
    ///
    /// The first term is a multiple of 32, the first vector of 2.
    ///
    /// # Panics
    /// If `to` has another length, or there are no such terms or vectors.
    #[inline(always)]
    pub fn write<S: Simd>(&self, simd: S, vectors: [usize; 2], terms: [usize; 2], to: &mut [f32]) {
        let len = (terms[1] - terms[0]) * PANEL;
        assert_eq!(to.len(), (vectors[1] - vectors[0]) * len, "lines of all vectors");
        match self {
            Self::Rows(weight) => {
                for (panel, to) in (vectors[0]..vectors[1]).zip(to.chunks_exact_mut(len)) {
                    weight.unpack(simd, panel, terms, to);
                }
            }
            Self::Columns(places) => {
                for place in *places {
                    let start = terms[0].max(place.column);
                    let end = terms[1].min(place.column + place.weight.dims()[0]);
                    let mut term = start;
                    while term < end {
                        let row = term - place.column;
                        let rows = (end - term).min(PANEL - row % PANEL);
                        let part = Part { weight: place.weight, row, rows };
                        part.write(simd, vectors, &mut to[(term - terms[0]) * PANEL..], len);
                        term += rows;
                    }
                }
            }
        }
    }
}

/// Some rows of one panel.
struct Part<'a> {
    weight: &'a Packed,
    row: usize,
    rows: usize,
}

impl Part<'_> {
    /// Their lines for some vectors, the next vector's `next` numbers further.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, [first, last]: [usize; 2], to: &mut [f32], next: usize) {
        let Self { weight, row, rows } = *self;
        let [_rows, columns] = weight.dims();
        // Two vectors: blocks of few bits begin at every 32nd column.
        for pair in (first..last).step_by(2) {
            let range = [pair * PANEL, columns.min((pair + 2).min(last) * PANEL)];
            let mut unpacked = [0.0; 2 * BLOCK];
            let whole = weight.part(simd, row / PANEL, range, &mut unpacked);
            for (vector, columns) in (pair..).zip(whole.chunks(BLOCK)) {
                let to = &mut to[(vector - first) * next..][..rows * PANEL];
                let mut filled = [0.0; BLOCK];
                let columns = columns.try_into().unwrap_or_else(|_fewer| {
                    filled[..columns.len()].copy_from_slice(columns);
                    &filled
                });
                if let Ok(to) = to.try_into() {
                    simd.turn(columns, to);
                } else {
                    let mut lines = [0.0; BLOCK];
                    simd.turn(columns, &mut lines);
                    to.copy_from_slice(&lines[row % PANEL * PANEL..][..to.len()]);
                }
            }
        }
    }
}
