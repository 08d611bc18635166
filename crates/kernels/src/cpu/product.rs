//! Products with frozen matrices, several at once: `x · Wᵀ`, and `dy · W` summed over them, which is
//! the gradient of what went into them.
//!
//! ```text
//! vectors of 16 columns, some a task:  256 terms at a time ─► lines in f32 ─► tiles of all rows
//! ```
//!
//! Both run in one way; they differ in what of W is a term and what a column, see `vectors.rs`. Each
//! weight comes from memory once, whatever the number of rows. Products of a few rows take another
//! way: `few_rows.rs`.

use super::bf16::Bf16Kernel;
use super::few_rows;
use super::packed::{PANEL, Packed};
use super::simd::{SimdLevel, dispatch};
use super::task::{Task, VECTORS};
use super::threads::{self, Shared};
use super::vectors::Vectors;
use super::workspace;

/// Rows that are worked on at a time: every task reads all of them, so they should stay in a cache
/// that tasks share.
const ROWS: usize = 512;

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
pub fn product(level: SimdLevel, input: &[f32], weights: &[&Packed], out: &mut [f32], add: bool) {
    let (places, width) = places(weights);
    let [_rows, columns] = places[0].weight.dims();
    let n = input.len() / columns;
    assert_eq!(input.len(), n * columns, "an input of whole rows of {columns}");
    assert_eq!(out.len(), n * width, "an output of {n} rows of {width}");
    if n <= few_rows::MOST {
        return few_rows::product(level, input, &places, width, out, add);
    }
    if let Some(way) = Bf16Kernel::of(level, &places) {
        return way.product(input, &places, width, out, add);
    }
    let total = places.iter().map(|place| place.weight.panels()).sum();
    let groups = groups(&places, threads::share(total, 2, VECTORS));
    for (left, out) in input.chunks(ROWS * columns).zip(out.chunks_mut(ROWS * width)) {
        let task = |index: usize| {
            let (Place { weight, column: at }, first, last) = groups[index];
            let (right, vectors) = (Vectors::Rows(weight), [first, last]);
            Task { left, terms: columns, right, vectors, at, width, add }
        };
        run(level, groups.len(), task, out);
    }
}

/// `d_out · W` summed over the weights; added to `d_input`, or in place of it.
///
/// # Shapes
/// - `d_out`: `[n, rows of all weights]`, side by side
/// - `d_input`: `[n, columns]`
///
/// # Panics
/// If lengths do not fit, or the processor lacks the level.
pub fn product_back(
    level: SimdLevel,
    d_out: &[f32],
    weights: &[&Packed],
    d_input: &mut [f32],
    add: bool,
) {
    let (places, terms) = places(weights);
    let [_rows, columns] = places[0].weight.dims();
    let n = d_out.len() / terms;
    assert_eq!(d_out.len(), n * terms, "a gradient of whole rows of {terms}");
    assert_eq!(d_input.len(), n * columns, "an input of {n} rows of {columns}");
    if let Some(way) = Bf16Kernel::of(level, &places).filter(|_| n > few_rows::MOST) {
        return way.product_back(d_out, &places, terms, d_input, add);
    }
    let total = columns.div_ceil(PANEL);
    let share = threads::share(total, 2, VECTORS);
    for (left, d_input) in d_out.chunks(ROWS * terms).zip(d_input.chunks_mut(ROWS * columns)) {
        let task = |index: usize| {
            let vectors = [index * share, total.min((index + 1) * share)];
            let right = Vectors::Columns(&places);
            Task { left, terms, right, vectors, at: 0, width: columns, add }
        };
        run(level, total.div_ceil(share), task, d_input);
    }
}

fn run<'a>(
    level: SimdLevel,
    tasks: usize,
    task: impl Fn(usize) -> Task<'a> + Sync,
    out: &mut [f32],
) {
    let out = Shared::new(out);
    threads::for_each(tasks, |index| {
        let task = task(index);
        workspace::with(task.scratch(), |scratch| {
            // Outside of what is compiled for the level: only what is inlined there is.
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
