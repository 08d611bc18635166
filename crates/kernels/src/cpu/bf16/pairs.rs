//! The right side of a product: a part of W as pairs of terms for 16 columns at a time.
//!
//! ```text
//! W in panels [column][16 rows] ─┬─► x · Wᵀ: W's rows are columns here, its columns are terms:
//!                                │     two lines of 16 ─► 16 pairs
//!                                └─► dy · W: W's columns are columns here, its rows are terms:
//!                                      a line is 8 pairs of 16 columns ─► 16 lines turned over
//! ```
//!
//! A task does this once for all rows of the batch; the layout is [vector of columns][pair][16][2].

use super::super::packed::{Data, PANEL, Packed};
use super::super::product::Place;
use super::BLOCK;
use super::task::TileKernel;

/// Numbers of a block of 16 columns.
pub(super) const NUMBERS: usize = BLOCK * PANEL;
/// Numbers of half a block: 16 terms of 16 columns.
pub(super) const HALF_BLOCK_LEN: usize = PANEL * PANEL;

/// Where pairs come from.
#[derive(Debug, Clone)]
pub(super) struct Pairs<'a>(From<'a>);

#[derive(Debug, Clone)]
enum From<'a> {
    Columns(&'a Packed),
    /// Panels of all weights, 16 terms each.
    Rows(Vec<(&'a Packed, usize)>),
}

impl<'a> Pairs<'a> {
    /// The weight's columns are the terms.
    pub fn of_columns(weight: &'a Packed) -> Self {
        Self(From::Columns(weight))
    }

    /// The rows of all weights are the terms; each weight begins at a multiple of 16.
    pub fn of_rows(places: &[Place<'a>]) -> Self {
        let panels = |place: &Place<'a>| {
            let weight = place.weight;
            (0..weight.panels()).map(move |panel| (weight, panel))
        };
        Self(From::Rows(places.iter().flat_map(panels).collect()))
    }

    /// Writes some blocks of some vectors of 16 columns.
    ///
    /// # Panics
    /// If `to` has another length, or there are no such blocks or columns.
    #[inline(always)]
    pub fn write<T: TileKernel>(
        &self,
        tiles: &T,
        [first, last]: [usize; 2],
        [from, end]: [usize; 2],
        to: &mut [u16],
    ) {
        let part = (end - from) * NUMBERS;
        assert_eq!(to.len(), (last - first) * part, "numbers of all vectors");
        match &self.0 {
            From::Columns(weight) => {
                for (panel, to) in (first..last).zip(to.chunks_exact_mut(part)) {
                    columns(line(weight, panel, [from * BLOCK, end * BLOCK]), to);
                }
            }
            From::Rows(panels) => {
                for half in 2 * from..2 * end {
                    let start = (half - 2 * from) * HALF_BLOCK_LEN;
                    for vector in first..last {
                        let to = &mut to[(vector - first) * part + start..][..HALF_BLOCK_LEN];
                        let to = to.try_into().expect("half a block");
                        match panels.get(half) {
                            Some((weight, panel)) => {
                                let columns = [vector * PANEL, (vector + 1) * PANEL];
                                rows(tiles, line(weight, *panel, columns), to);
                            }
                            None => *to = [0; HALF_BLOCK_LEN],
                        }
                    }
                }
            }
        }
    }
}

/// Those of some columns of a panel that there are.
fn line(weight: &Packed, panel: usize, [from, to]: [usize; 2]) -> &[u16] {
    let Data::Bf16(lines) = &weight.data else { unreachable!("weights in bf16") };
    let [_rows, columns] = weight.dims();
    let start = panel * columns;
    &lines.as_slice()[(start + from) * PANEL..(start + to.min(columns)) * PANEL]
}

/// Columns of a panel, `[column][16]`, into `[pair][16][2]`; zeros for missing ones.
#[inline(always)]
fn columns(from: &[u16], to: &mut [u16]) {
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
    // Arrays become vectors.
    let [first, second] = columns.map(|column| *<&[u16; PANEL]>::try_from(column).expect("16"));
    let all: [[u16; 2]; PANEL] = std::array::from_fn(|i| [first[i], second[i]]);
    pairs.copy_from_slice(all.as_flattened());
}

/// 16 columns of a panel, `[16][pair][2]`, into `[pair][16][2]`; zeros for missing ones.
#[inline(always)]
fn rows<T: TileKernel>(tiles: &T, from: &[u16], to: &mut [u16; HALF_BLOCK_LEN]) {
    if let Ok(from) = from.try_into() {
        tiles.turn(from, to);
    } else {
        let mut all = [0; HALF_BLOCK_LEN];
        all[..from.len()].copy_from_slice(from);
        tiles.turn(&all, to);
    }
}
