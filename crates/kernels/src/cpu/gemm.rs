//! GEMM with frozen matrices, several at once: `x · Wᵀ`, and `dy · W` summed over them, which is
//! the gradient of `x`.
//!
//! ```text
//! task: some panels of 16 columns ─► blocks of the inner dimension ─► f32 ─► tiles of all rows
//! ```
//!
//! Both directions run the same loops and differ in what is packed into the panels, see
//! `rhs_panels.rs`. Each weight is read from memory once, whatever the number of rows. Batches of
//! up to four rows are multiplied in another way, see `small_batch_gemm.rs`; weights in bf16 too on
//! some processors, see `bf16`. In `x · Wᵀ` all of them add up the elements of a row in the same
//! order: a row of the output depends on that row of the input alone, bit for bit.

use super::bf16::Bf16Kernel;
use super::concat::{OffsetWeight, offset_weights, panel_groups};
use super::gemm_task::{GemmTask, MAX_PANELS};
use super::packed_matrix::PackedMatrix;
use super::rhs_panels::RhsPanels;
use super::simd::{SimdLevel, dispatch};
use super::small_batch_gemm::{self, small_batch_gemm};
use super::threads::{self, SharedSlice};
use super::workspace;
use crate::sizes::PANEL;

/// Rows of the batch that are processed at a time. Every task reads all of them, so they should
/// stay in the cache that tasks share.
const MAX_BATCH_ROWS: usize = 512;

/// `input · Wᵀ` of each weight, concatenated; added to the output with `accumulate`, overwriting it
/// otherwise.
///
/// # Shapes
/// - `input`: `[n, columns]`
/// - `out`: `[n, rows of all weights]`
///
/// # Panics
/// If lengths do not match, or the processor lacks the level.
pub fn gemm(
    level: SimdLevel,
    input: &[f32],
    weights: &[&PackedMatrix],
    out: &mut [f32],
    accumulate: bool,
) {
    let (weights, width) = offset_weights(weights);
    let [_rows, columns] = weights[0].weight.dims();
    let n = input.len() / columns;
    assert_eq!(input.len(), n * columns, "the input is not whole rows of {columns}");
    assert_eq!(out.len(), n * width, "the output is not {n} rows of {width}");
    if n <= small_batch_gemm::MAX_ROWS {
        return small_batch_gemm(level, input, &weights, width, out, accumulate);
    }
    if let Some(kernel) = Bf16Kernel::select(level, &weights) {
        return kernel.gemm(input, &weights, width, out, accumulate);
    }
    let total = weights.iter().map(|weight| weight.weight.panels()).sum();
    let groups = panel_groups(&weights, threads::items_per_task(total, 2, MAX_PANELS));
    let batches = input.chunks(MAX_BATCH_ROWS * columns);
    for (lhs, out) in batches.zip(out.chunks_mut(MAX_BATCH_ROWS * width)) {
        let task = |index: usize| {
            let (OffsetWeight { weight, column_offset }, panels) = groups[index];
            GemmTask {
                lhs,
                inner_dim: columns,
                rhs: RhsPanels::Forward(weight),
                panels,
                out_column: column_offset,
                out_width: width,
                accumulate,
            }
        };
        run_tasks(level, groups.len(), task, out);
    }
}

/// `d_out · W` summed over the weights; added to `d_input` with `accumulate`, overwriting it
/// otherwise.
///
/// # Shapes
/// - `d_out`: `[n, rows of all weights]`, concatenated
/// - `d_input`: `[n, columns]`
///
/// # Panics
/// If lengths do not match, or the processor lacks the level.
pub fn gemm_backward(
    level: SimdLevel,
    d_out: &[f32],
    weights: &[&PackedMatrix],
    d_input: &mut [f32],
    accumulate: bool,
) {
    let (weights, inner_dim) = offset_weights(weights);
    let [_rows, columns] = weights[0].weight.dims();
    let n = d_out.len() / inner_dim;
    assert_eq!(d_out.len(), n * inner_dim, "the gradient is not whole rows of {inner_dim}");
    assert_eq!(d_input.len(), n * columns, "the input's gradient is not {n} rows of {columns}");
    if n > small_batch_gemm::MAX_ROWS
        && let Some(kernel) = Bf16Kernel::select(level, &weights)
    {
        return kernel.gemm_backward(d_out, &weights, inner_dim, d_input, accumulate);
    }
    let total = columns.div_ceil(PANEL);
    let panels_per_task = threads::items_per_task(total, 2, MAX_PANELS);
    let batches = d_out.chunks(MAX_BATCH_ROWS * inner_dim);
    for (lhs, d_input) in batches.zip(d_input.chunks_mut(MAX_BATCH_ROWS * columns)) {
        let task = |index: usize| {
            let first = index * panels_per_task;
            GemmTask {
                lhs,
                inner_dim,
                rhs: RhsPanels::Backward(&weights),
                panels: [first, total.min(first + panels_per_task)],
                out_column: 0,
                out_width: columns,
                accumulate,
            }
        };
        run_tasks(level, total.div_ceil(panels_per_task), task, d_input);
    }
}

fn run_tasks<'a>(
    level: SimdLevel,
    tasks: usize,
    task: impl Fn(usize) -> GemmTask<'a> + Sync,
    out: &mut [f32],
) {
    let out = SharedSlice::new(out);
    threads::parallel_for(tasks, |index| {
        let task = task(index);
        workspace::with_buffer(task.workspace_len(), |workspace| {
            // Dispatched inside of the loop: only code inlined into the call is compiled for the
            // level, and the loop over tasks is not.
            dispatch!(level, simd => task.run(simd, workspace, &out));
        });
    });
}
