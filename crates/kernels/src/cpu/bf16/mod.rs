//! Products with matrices kept in bf16, on processors that multiply such numbers.
//!
//! ```text
//! x or dy ─► bf16, [block of 32 terms][row][32] ──────────┐
//! a task's part of W ─► [16 columns][pair of terms][16][2] ┴► tiles ─► out [row][column], in f32
//! ```
//!
//! What goes in is rounded to bf16, which the matrices are already; sums are f32 and run over the
//! terms from first to last, whatever the number of threads. Both products take this one way: they
//! differ in what of W is a term and what a column, see `pairs.rs`.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod dot;
mod pairs;
#[cfg(test)]
mod plain;
mod rounded;
mod task;
#[cfg(test)]
mod tests;

use super::packed::{Data, PANEL};
use super::product::{Place, groups};
use super::simd::SimdLevel;
#[cfg(target_arch = "x86_64")]
use super::simd::{Amx, Avx512Bf16};
use super::threads::{self, Shared};
use super::workspace;
use pairs::Pairs;
use task::Task;

/// Terms of a block: what one tile of AMX holds of a row. Missing ones are zeros.
const BLOCK: usize = 32;
/// Rows of the batch that are worked on at a time, so that workspaces stay small.
const ROWS: usize = 1024;
/// Vectors of 16 columns of a task at the most: with a few hundred terms they fill a near cache.
const VECTORS: usize = 16;

/// The instructions that multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bf16Kernel {
    /// Plain Rust, for tests.
    #[cfg(test)]
    Plain,
    /// AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Dot,
    /// AMX.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Bf16Kernel {
    /// What a level multiplies with, if it can, and if all weights are kept in bf16.
    pub fn of(level: SimdLevel, places: &[Place]) -> Option<Self> {
        let way = match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512Bf16 => Self::Dot,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Amx => Self::Amx,
            _ => return None,
        };
        places.iter().all(|place| matches!(place.weight.data, Data::Bf16(_))).then_some(way)
    }

    /// As [`product`](super::product::product).
    pub fn product(
        self,
        input: &[f32],
        places: &[Place],
        width: usize,
        out: &mut [f32],
        add: bool,
    ) {
        let [_rows, columns] = places[0].weight.dims();
        let total = places.iter().map(|place| place.weight.panels()).sum();
        let tasks = groups(places, threads::share(total, 2, VECTORS));
        for (input, out) in input.chunks(ROWS * columns).zip(out.chunks_mut(ROWS * width)) {
            rounded::with(self, input, columns, &[[0, columns]], |left| {
                let out = Shared::new(out);
                threads::for_each(tasks.len(), |task| {
                    let (Place { weight, column: at }, first, last) = tasks[task];
                    let [columns, _terms] = weight.dims();
                    let (right, vectors) = (&Pairs::of_columns(weight), [first, last]);
                    self.run(&Task { left, right, vectors, columns, at, width, add }, &out);
                });
            });
        }
    }

    /// As [`product_back`](super::product::product_back).
    pub fn product_back(
        self,
        d_out: &[f32],
        places: &[Place],
        width: usize,
        d_input: &mut [f32],
        add: bool,
    ) {
        let [_rows, columns] = places[0].weight.dims();
        let total = columns.div_ceil(PANEL);
        let share = threads::share(total, 2, VECTORS);
        let right = Pairs::of_rows(places);
        let own = |place: &Place| [place.column, place.column + place.weight.dims()[0]];
        let parts = places.iter().map(own).collect::<Vec<_>>();
        for (d_out, d_input) in d_out.chunks(ROWS * width).zip(d_input.chunks_mut(ROWS * columns)) {
            rounded::with(self, d_out, width, &parts, |left| {
                let d_input = Shared::new(d_input);
                threads::for_each(total.div_ceil(share), |task| {
                    let vectors = [task * share, total.min((task + 1) * share)];
                    let right = &right;
                    let width = columns;
                    self.run(&Task { left, right, vectors, columns, at: 0, width, add }, &d_input);
                });
            });
        }
    }

    fn run(self, task: &Task, out: &Shared<f32>) {
        // Outside of what is compiled for the instructions: only what is inlined there is.
        workspace::with_u16_buffer(task.scratch(), |scratch| match self {
            #[cfg(test)]
            Self::Plain => task.run(&mut plain::Plain, scratch, out),
            #[cfg(target_arch = "x86_64")]
            Self::Dot => {
                let mut dot = Avx512Bf16::new().expect("the level is available");
                dot.vectorize(
                    #[inline(always)]
                    || task.run(&mut dot, scratch, out),
                );
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => {
                let amx = Amx::new().expect("the level is available");
                amx.vectors().vectorize(
                    #[inline(always)]
                    || task.run(&mut amx::TileRegisters::new(amx), scratch, out),
                );
            }
        });
    }

    /// Runs `work`, compiled for the vectors that go with the instructions.
    #[inline(always)]
    fn vectorize(self, work: impl FnOnce()) {
        match self {
            #[cfg(test)]
            Self::Plain => work(),
            #[cfg(target_arch = "x86_64")]
            Self::Dot | Self::Amx => {
                Avx512Bf16::new().expect("the level is available").vectorize(work);
            }
        }
    }
}
