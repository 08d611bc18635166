//! One task of a product: some columns of it, for all rows.

use super::packed::PANEL;
use super::simd::Simd;
use super::threads::Shared;
use super::tile::{self, Left, Out, Right};
use super::vectors::Vectors;

/// Terms that are worked on at a time: 16 KiB of a vector, half of the nearest cache.
const TERMS: usize = 256;
/// Numbers of a vector's part.
const PART: usize = TERMS * PANEL;
/// Rows that are worked on at a time: with as many terms, a part of the next cache.
const ROWS: usize = 96;
/// Vectors of a task at the most: their part of a weight and of the rows fill the next cache.
pub(super) const VECTORS: usize = 8;

#[derive(Debug)]
pub(super) struct Task<'a> {
    /// `[rows, terms]`
    pub left: &'a [f32],
    pub terms: usize,
    pub right: Vectors<'a>,
    /// Vectors of 16 columns: the first one, and the one behind the last one.
    pub vectors: [usize; 2],
    /// The product's first column in the output.
    pub at: usize,
    /// Columns of the output.
    pub width: usize,
    pub add: bool,
}

impl Task<'_> {
    /// Numbers of the workspace: the vectors' part, if it does not lie ready.
    pub fn scratch(&self) -> usize {
        let [first, last] = self.vectors;
        match self.right.unpacked_panel(first) {
            Some(_) => 0,
            None => (last - first) * PART.min(self.terms * PANEL),
        }
    }

    /// Replaces the task's columns of the output, or adds to them.
    ///
    /// # Panics
    /// If `scratch` is shorter than it must be, or the input or the output is.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, scratch: &mut [f32], out: &Shared<f32>) {
        let [first, last] = self.vectors;
        let n = self.left.len() / self.terms;
        for from in (0..self.terms).step_by(TERMS) {
            let to = self.terms.min(from + TERMS);
            let len = (to - from) * PANEL;
            if !scratch.is_empty() {
                let lines = &mut scratch[..(last - first) * len];
                self.right.write(simd, self.vectors, [from, to], lines);
            }
            for row in (0..n).step_by(ROWS) {
                let rows = ROWS.min(n - row);
                let mut vector = first;
                while vector < last {
                    let (start, stride) = match self.right.unpacked_panel(vector) {
                        Some(start) => (start.wrapping_add(from * PANEL), self.terms * PANEL),
                        None => (scratch[(vector - first) * len..].as_ptr(), len),
                    };
                    let tile = Tile { row, rows, from, depth: to - from, vector, start, stride };
                    vector += self.tile(simd, &tile, last, out);
                }
            }
        }
    }

    /// Some rows times one vector, or two of them; gives their number.
    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, tile: &Tile, last: usize, out: &Shared<f32>) -> usize {
        let Tile { row, rows, from, depth, vector, start, stride } = *tile;
        let columns = self.right.columns();
        let full = |vector: usize| (vector + 1) * PANEL <= columns;
        let two = S::LANES == PANEL && vector + 1 < last && full(vector + 1);
        let start_left = self.left[row * self.terms + from..].as_ptr();
        let left = Left { start: start_left, row: self.terms, column: 1 };
        let add = self.add || from > 0;
        let at = row * self.width + self.at + vector * PANEL;
        if full(vector) {
            let out = Out { start: out.pointer(at), row: self.width, second: S::LANES, add };
            let right = Right { start, row: PANEL, second: S::LANES };
            // SAFETY: `rows` rows of the left side from `row` on have `depth` numbers from `from` on;
            // a vector has `depth` lines of 16 from `start` on, the one behind it `stride` further.
            // The output's rows have room for the vectors' columns, and no other task writes there.
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
            // The last vector may have fewer columns in the output.
            let own = columns - vector * PANEL;
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
    vector: usize,
    start: *const f32,
    stride: usize,
}
