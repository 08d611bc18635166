//! `dy · W`, summed over several frozen matrices: the gradient of what went into them.
//!
//! ```text
//! dy [n, rows] ─► panels of 16 of its rows ─┐
//! W, in panels of 16 of its rows ───────────┴► dxᵀ in panels of 16 rows ─► dx [n, columns]
//! ```
//!
//! The panels of W are the left side here, read number by number; a vector holds 16 rows of the
//! batch.

use super::bf16::Way;
use super::few_rows;
use super::packed::{PANEL, Packed};
use super::product::{Place, places};
use super::simd::{Level, Simd, dispatch};
use super::threads::{self, Shared};
use super::tile::{self, Depth, Left, Out, Right};
use super::workspace;

/// Rows of the gradient that are worked on at a time, so that workspaces stay small.
const ROWS: usize = 1024;
/// Panels of a weight that are worked on at a time: 256 terms.
const PANELS: usize = 16;
/// Columns of a weight that are worked on at a time: with as many panels, a part of a near cache.
const COLUMNS: usize = 72;
/// Columns at whose multiples blocks of few bits begin.
const ALIGNED: usize = 32;

/// `d_out · W` summed over the weights; added to `d_input`, or in place of it.
///
/// # Shapes
/// - `d_out`: `[n, rows of all weights]`, side by side
/// - `d_input`: `[n, columns]`
///
/// # Panics
/// If lengths do not fit, or the processor lacks the level.
pub fn product_back(
    level: Level,
    d_out: &[f32],
    weights: &[&Packed],
    d_input: &mut [f32],
    add: bool,
) {
    let (places, width) = places(weights);
    let [_rows, columns] = places[0].weight.dims();
    let n = d_out.len() / width;
    assert_eq!(d_out.len(), n * width, "a gradient of whole rows of {width}");
    assert_eq!(d_input.len(), n * columns, "an input of {n} rows of {columns}");
    if let Some(way) = Way::of(level, &places).filter(|_| n > few_rows::MOST) {
        return way.product_back(d_out, &places, width, d_input, add);
    }
    let parts = d_out.chunks(ROWS * width).zip(d_input.chunks_mut(ROWS * columns));
    for (d_out, d_input) in parts {
        some_rows(level, d_out, &places, width, d_input, add);
    }
}

fn some_rows(
    level: Level,
    d_out: &[f32],
    places: &[Place],
    width: usize,
    d_input: &mut [f32],
    add: bool,
) {
    let [_rows, columns] = places[0].weight.dims();
    let depth = places.iter().map(|place| place.weight.panels()).sum::<usize>() * PANEL;
    let blocks = (d_out.len() / width).div_ceil(PANEL);
    workspace::with(blocks * depth * PANEL, |right| {
        into_panels(d_out, places, width, depth, right);
        workspace::with(blocks * columns * PANEL, |sums| {
            let share = threads::share(columns, 12, COLUMNS);
            let shared = Shared::new(sums);
            threads::for_each(columns.div_ceil(share), |task| {
                let from = task * share;
                let task = Task {
                    places,
                    right,
                    depth,
                    blocks,
                    columns,
                    part: [from, columns.min(from + share)],
                };
                // Outside of what is compiled for the level: only what is inlined there is.
                workspace::with(task.scratch(), |scratch| {
                    dispatch!(level, simd => task.run(simd, scratch, &shared));
                });
            });
            out_of_panels(sums, columns, d_input, add);
        });
    });
}

/// Row-major rows, side by side for all weights, into panels of 16 rows, `[block][depth][16]`.
/// Rows and columns that are missing become zeros.
fn into_panels(d_out: &[f32], places: &[Place], width: usize, depth: usize, panels: &mut [f32]) {
    let blocks = panels.len() / (depth * PANEL);
    let shared = Shared::new(panels);
    threads::for_each(blocks, |block| {
        // SAFETY: each task has a block of its own.
        let panel = unsafe { shared.part(block * depth * PANEL, depth * PANEL) };
        let rows = &d_out[block * PANEL * width..];
        let rows = &rows[..rows.len().min(PANEL * width)];
        if rows.len() < PANEL * width {
            panel.fill(0.0);
        }
        let mut start = 0;
        for Place { weight, column } in places {
            let [own, _columns] = weight.dims();
            let part = &mut panel[start..start + weight.panels() * PANEL * PANEL];
            part[own * PANEL..].fill(0.0);
            for (lane, row) in rows.chunks_exact(width).enumerate() {
                let row = &row[*column..column + own];
                for (to, &value) in part[lane..].iter_mut().step_by(PANEL).zip(row) {
                    *to = value;
                }
            }
            start += part.len();
        }
    });
}

/// The way back: panels of 16 rows into row-major rows.
fn out_of_panels(panels: &[f32], columns: usize, rows: &mut [f32], add: bool) {
    let blocks = panels.len() / (columns * PANEL);
    let shared = Shared::new(rows);
    let n = shared.count() / columns;
    threads::for_each(blocks, |block| {
        let panel = &panels[block * columns * PANEL..][..columns * PANEL];
        let own = PANEL.min(n - block * PANEL);
        // SAFETY: each task has rows of its own.
        let rows = unsafe { shared.part(block * PANEL * columns, own * columns) };
        for (lane, row) in rows.chunks_exact_mut(columns).enumerate() {
            for (to, &value) in row.iter_mut().zip(panel[lane..].iter().step_by(PANEL)) {
                *to = if add { *to + value } else { value };
            }
        }
    });
}

struct Task<'a> {
    places: &'a [Place<'a>],
    right: &'a [f32],
    depth: usize,
    blocks: usize,
    columns: usize,
    /// The weights' columns that this task works on.
    part: [usize; 2],
}

impl Task<'_> {
    /// Numbers of the workspace: the task's columns of some panels in f32, if one of the weights is
    /// not kept so.
    fn scratch(&self) -> usize {
        let [from, to] = self.part;
        if self.places.iter().all(|place| place.weight.f32_panel(0).is_some()) {
            return 0;
        }
        PANELS * self.columns.min(to - from + 2 * ALIGNED) * PANEL
    }

    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, scratch: &mut [f32], sums: &Shared<f32>) {
        let [from, _to] = self.part;
        let mut term = 0;
        for place in self.places {
            let weight = place.weight;
            for first in (0..weight.panels()).step_by(PANELS) {
                let last = weight.panels().min(first + PANELS);
                let left = match weight.f32_panel(first) {
                    Some(start) => Left {
                        start: start.wrapping_add(from * PANEL),
                        row: PANEL,
                        column: 1,
                        block: self.columns * PANEL,
                    },
                    None => self.unpacked(simd, weight, [first, last], scratch),
                };
                self.tiles(simd, left, term, last - first, sums);
                term += (last - first) * PANEL;
            }
        }
    }

    /// The columns of some panels, in f32.
    #[inline(always)]
    fn unpacked<S: Simd>(
        &self,
        simd: S,
        weight: &Packed,
        [first, last]: [usize; 2],
        scratch: &mut [f32],
    ) -> Left {
        let [from, to] = self.part;
        let aligned = from / ALIGNED * ALIGNED;
        let end = to.next_multiple_of(ALIGNED).min(self.columns);
        let part = (end - aligned) * PANEL;
        for (panel, out) in (first..last).zip(scratch.chunks_exact_mut(part)) {
            weight.unpack(simd, panel, [aligned, end], out);
        }
        let start = scratch[(from - aligned) * PANEL..].as_ptr();
        Left { start, row: PANEL, column: 1, block: part }
    }

    #[inline(always)]
    fn tiles<S: Simd>(&self, simd: S, left: Left, term: usize, panels: usize, sums: &Shared<f32>) {
        let [from, to] = self.part;
        let depth = Depth { blocks: panels, depth: PANEL };
        let mut block = 0;
        while block < self.blocks {
            let right = Right {
                start: self.right[(block * self.depth + term) * PANEL..].as_ptr(),
                row: PANEL,
                second: S::LANES,
            };
            let out = Out {
                start: sums.pointer((block * self.columns + from) * PANEL),
                row: PANEL,
                second: S::LANES,
                add: term > 0,
            };
            let two = S::LANES == PANEL && block + 1 < self.blocks;
            // SAFETY: the left side has `to - from` columns of `panels` panels; the right side
            // `panels * 16` terms behind `term` in this block, and in the one behind it; each task
            // has its own columns of the sums.
            unsafe {
                if two {
                    let right = Right { second: self.depth * PANEL, ..right };
                    let out = Out { second: self.columns * PANEL, ..out };
                    tile::product::<S, 2>(simd, to - from, depth, left, right, out);
                } else if S::LANES == PANEL {
                    tile::product::<S, 1>(simd, to - from, depth, left, right, out);
                } else {
                    tile::product::<S, 2>(simd, to - from, depth, left, right, out);
                }
            }
            block += if two { 2 } else { 1 };
        }
    }
}
