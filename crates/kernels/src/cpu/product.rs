//! `x · Wᵀ` for several frozen matrices at once.
//!
//! ```text
//! groups of panels, one a task:  256 columns at a time ─► (unpack to f32 ─►) tiles of all rows
//! ```
//!
//! Each panel comes from memory once, whatever the number of rows. Products of a few rows take
//! another way: `few_rows.rs`.

use super::bf16::Way;
use super::few_rows;
use super::packed::{PANEL, Packed};
use super::simd::{Level, Simd, dispatch};
use super::threads::{self, Shared};
use super::tile::{self, Depth, Left, Out, Right};
use super::workspace;

/// Columns of a panel that are worked on at a time: 16 KiB in f32, half of the nearest cache.
const COLUMNS: usize = 256;
/// Numbers of a part of a panel.
const PART: usize = COLUMNS * PANEL;
/// Rows of the input that are worked on at a time: with as many columns, a part of the next cache.
const ROWS: usize = 96;
/// Panels of a task at the most: their part of a weight and of the input fill the next cache.
const PANELS: usize = 8;

/// One product's place in an output that several share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub weight: &'a Packed,
    /// The weight's first column in the output.
    pub column: usize,
}

/// Where each weight's rows go in the output, side by side, and the output's width.
///
/// # Panics
/// If the weights have different numbers of columns, or there are none.
pub(super) fn places<'a>(weights: &[&'a Packed]) -> (Vec<Place<'a>>, usize) {
    let [_rows, columns] = weights.first().expect("a product has a weight").dims();
    let mut width = 0;
    let places = weights.iter().map(|weight| {
        let [own_rows, own_columns] = weight.dims();
        assert_eq!(own_columns, columns, "columns of the weights of one product");
        let place = Place { weight, column: width };
        width += own_rows;
        place
    });
    (places.collect(), width)
}

/// `input · Wᵀ` of each weight, side by side; added to the output, or in place of it.
///
/// # Shapes
/// - `input`: `[n, columns]`
/// - `out`: `[n, rows of all weights]`
///
/// # Panics
/// If lengths do not fit, or the processor lacks the level.
pub fn product(level: Level, input: &[f32], weights: &[&Packed], out: &mut [f32], add: bool) {
    let (places, width) = places(weights);
    let [_rows, columns] = places[0].weight.dims();
    let n = input.len() / columns;
    assert_eq!(input.len(), n * columns, "an input of whole rows of {columns}");
    assert_eq!(out.len(), n * width, "an output of {n} rows of {width}");
    if n <= few_rows::MOST {
        return few_rows::product(level, input, &places, width, out, add);
    }
    if let Some(way) = Way::of(level, &places) {
        return way.product(input, &places, width, out, add);
    }
    let total = places.iter().map(|place| place.weight.panels()).sum();
    // Two panels make one tile where a vector is as wide as a panel.
    let share = threads::share(total, 2, PANELS);
    let tasks = groups(&places, share);
    let out = Shared::new(out);
    threads::for_each(tasks.len(), |task| {
        let (place, first, last) = tasks[task];
        let task = Task { input, n, columns, place, panels: [first, last], width, add };
        // Outside of what is compiled for the level: only what is inlined there is.
        workspace::with(task.scratch(), |scratch| {
            dispatch!(level, simd => task.run(simd, scratch, &out));
        });
    });
}

/// Groups of at most `share` panels: a weight, its first and its last panel.
pub(super) fn groups<'a>(places: &[Place<'a>], share: usize) -> Vec<(Place<'a>, usize, usize)> {
    let of = |place: &Place<'a>| {
        let (place, panels) = (*place, place.weight.panels());
        (0..panels).step_by(share).map(move |first| (place, first, panels.min(first + share)))
    };
    places.iter().flat_map(of).collect()
}

struct Task<'a> {
    input: &'a [f32],
    n: usize,
    columns: usize,
    place: Place<'a>,
    panels: [usize; 2],
    width: usize,
    add: bool,
}

impl Task<'_> {
    /// Numbers of the workspace: the task's panels in f32, if they are not kept so.
    fn scratch(&self) -> usize {
        let [first, last] = self.panels;
        match self.place.weight.f32_panel(first) {
            Some(_) => 0,
            None => (last - first) * PART,
        }
    }

    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, scratch: &mut [f32], out: &Shared<f32>) {
        let [first, last] = self.panels;
        let weight = self.place.weight;
        for from in (0..self.columns).step_by(COLUMNS) {
            let to = self.columns.min(from + COLUMNS);
            let depth = to - from;
            for (panel, part) in (first..last).zip(scratch.chunks_exact_mut(PART)) {
                weight.unpack(simd, panel, [from, to], &mut part[..depth * PANEL]);
            }
            for row in (0..self.n).step_by(ROWS) {
                let rows = ROWS.min(self.n - row);
                let mut panel = first;
                while panel < last {
                    let (start, stride) = match weight.f32_panel(panel) {
                        Some(start) => (start.wrapping_add(from * PANEL), self.columns * PANEL),
                        None => (scratch[(panel - first) * PART..].as_ptr(), PART),
                    };
                    let tile = Tile { row, rows, from, depth, panel, start, stride };
                    panel += self.tile(simd, &tile, last, out);
                }
            }
        }
    }

    /// Some rows times one panel, or two of them; gives their number.
    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tile: &Tile, last: usize, out: &Shared<f32>) -> usize {
        let Tile { row, rows, from, depth, panel, start, stride } = *tile;
        let [weight_rows, _columns] = self.place.weight.dims();
        let full = |panel: usize| (panel + 1) * PANEL <= weight_rows;
        let two = S::LANES == PANEL && panel + 1 < last && full(panel + 1);
        let left = Left {
            start: self.input[row * self.columns + from..].as_ptr(),
            row: self.columns,
            column: 1,
            block: 0,
        };
        let depth = Depth { blocks: 1, depth };
        let add = self.add || from > 0;
        let at = row * self.width + self.place.column + panel * PANEL;
        if full(panel) {
            let out = Out { start: out.pointer(at), row: self.width, second: S::LANES, add };
            let right = Right { start, row: PANEL, second: S::LANES };
            // SAFETY: `rows` rows of the input from `row` on have `depth` numbers from column `from`
            // on; a panel has `depth` times 16 from `start` on, the one behind it `stride` further.
            // The output's rows have room for the panel's columns, and no other task writes there.
            unsafe {
                if two {
                    let right = Right { second: stride, ..right };
                    tile::product::<S, 2>(simd, rows, depth, left, right, out);
                } else if S::LANES == PANEL {
                    tile::product::<S, 1>(simd, rows, depth, left, right, out);
                } else {
                    tile::product::<S, 2>(simd, rows, depth, left, right, out);
                }
            }
        } else {
            // The last panel of a weight may have fewer columns in the output.
            let own = weight_rows - panel * PANEL;
            let mut part = [[0.0_f32; PANEL]; ROWS];
            let right = Right { start, row: PANEL, second: S::LANES };
            let to =
                Out { start: part.as_mut_ptr().cast(), row: PANEL, second: S::LANES, add: false };
            // SAFETY: as above, with an output of its own of ROWS rows.
            unsafe {
                if S::LANES == PANEL {
                    tile::product::<S, 1>(simd, rows, depth, left, right, to);
                } else {
                    tile::product::<S, 2>(simd, rows, depth, left, right, to);
                }
            }
            for (r, part) in part[..rows].iter().enumerate() {
                // SAFETY: these columns of these rows are this task's alone.
                let to = unsafe { out.part(at + r * self.width, own) };
                for (to, value) in to.iter_mut().zip(part) {
                    *to = if add { *to + value } else { *value };
                }
            }
        }
        if two { 2 } else { 1 }
    }
}

#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    rows: usize,
    from: usize,
    depth: usize,
    panel: usize,
    start: *const f32,
    stride: usize,
}
