//! GEMM with weights in bf16, on processors with instructions for bf16.
//!
//! ```text
//! x or dy ─► bf16, [block of 32][row][32] ──────────────────────────────┐
//! a task's part of W ─► [panel][pair of the inner dimension][16][2] ────┴► tiles ─► out, f32
//! ```
//!
//! The inputs are rounded to bf16, as the weights already are. Sums are f32, in an order that
//! depends on the instructions alone, see `SumOrder`. Both directions run the same loops
//! and differ in what is packed into the panels, see `vnni_panels.rs`.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod bf16_rows;
mod gemm_task;
mod kernel;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod tile_kernel;
mod vnni_panels;

use super::concat::{OffsetWeight, panel_groups};
#[cfg(target_arch = "x86_64")]
use super::simd::{Amx, Avx512Bf16};
use super::threads::{self, SharedSlice};
use super::workspace;
use crate::sizes::{MAX_BF16_GEMM_ROWS, PANEL};
use bf16_rows::with_bf16_rows;
use gemm_task::Bf16GemmTask;
use vnni_panels::VnniPanels;

pub(super) use bf16_rows::round_elements;
pub(super) use kernel::{Bf16Kernel, SumOrder};

/// Maximum number of panels of a task: with a few hundred of the inner dimension they fill the L2
/// cache.
const MAX_PANELS: usize = 16;

impl Bf16Kernel {
    /// As [`gemm`](super::gemm::gemm); `width` is the width of the output.
    pub(super) fn gemm(
        self,
        input: &[f32],
        weights: &[OffsetWeight],
        width: usize,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let [_rows, columns] = weights[0].weight.dims();
        let total = weights.iter().map(|weight| weight.weight.panels()).sum();
        let groups = panel_groups(weights, threads::items_per_task(total, 2, MAX_PANELS));
        let batches = input.chunks(MAX_BF16_GEMM_ROWS * columns);
        for (input, out) in batches.zip(out.chunks_mut(MAX_BF16_GEMM_ROWS * width)) {
            with_bf16_rows(self, input, columns, &[[0, columns]], |lhs| {
                let out = SharedSlice::new(out);
                threads::parallel_for(groups.len(), |index| {
                    let (OffsetWeight { weight, column_offset }, panels) = groups[index];
                    let [rows, _columns] = weight.dims();
                    let task = Bf16GemmTask {
                        lhs,
                        rhs: &VnniPanels::forward(weight),
                        panels,
                        columns: rows,
                        out_column: column_offset,
                        out_width: width,
                        accumulate,
                    };
                    self.run(&task, &out);
                });
            });
        }
    }

    /// As [`gemm_backward`](super::gemm::gemm_backward); `width` is the width of `d_out`.
    pub(super) fn gemm_backward(
        self,
        d_out: &[f32],
        weights: &[OffsetWeight],
        width: usize,
        d_input: &mut [f32],
        accumulate: bool,
    ) {
        let [_rows, columns] = weights[0].weight.dims();
        let total = columns.div_ceil(PANEL);
        let panels_per_task = threads::items_per_task(total, 2, MAX_PANELS);
        let rhs = VnniPanels::backward(weights);
        let range = |weight: &OffsetWeight| {
            [weight.column_offset, weight.column_offset + weight.weight.dims()[0]]
        };
        let ranges = weights.iter().map(range).collect::<Vec<_>>();
        let batches = d_out.chunks(MAX_BF16_GEMM_ROWS * width);
        for (d_out, d_input) in batches.zip(d_input.chunks_mut(MAX_BF16_GEMM_ROWS * columns)) {
            with_bf16_rows(self, d_out, width, &ranges, |lhs| {
                let d_input = SharedSlice::new(d_input);
                threads::parallel_for(total.div_ceil(panels_per_task), |index| {
                    let first = index * panels_per_task;
                    let task = Bf16GemmTask {
                        lhs,
                        rhs: &rhs,
                        panels: [first, total.min(first + panels_per_task)],
                        columns,
                        out_column: 0,
                        out_width: columns,
                        accumulate,
                    };
                    self.run(&task, &d_input);
                });
            });
        }
    }

    fn run(self, task: &Bf16GemmTask, out: &SharedSlice<f32>) {
        // Vectorized inside of the buffer's closure: only code inlined into the call is compiled
        // for the instructions.
        workspace::with_u16_buffer(task.workspace_len(), |workspace| match self {
            #[cfg(test)]
            Self::Reference => task.run(&mut reference::ReferenceTiles, workspace, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                let mut tiles = Avx512Bf16::new().expect("the level is available");
                tiles.vectorize(
                    #[inline(always)]
                    || task.run(&mut tiles, workspace, out),
                );
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => {
                let amx = Amx::new().expect("the level is available");
                amx.vectors().vectorize(
                    #[inline(always)]
                    || task.run(&mut amx::TileRegisters::new(amx), workspace, out),
                );
            }
        });
    }
}
