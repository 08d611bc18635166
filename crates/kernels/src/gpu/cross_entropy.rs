//! Output head and summed cross-entropy: a part of the rows at a time, so that the logits of all rows
//! are never in memory. Losses and gradients of a part are one launch between two GEMMs.
//!
//! ```text
//! hidden · headᵀ ─► logits ─► losses, and logits become their gradient ─► · head ─► d_hidden
//! ```

use burn::backend::ops::FloatTensorOps;
use burn::tensor::Slice;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cube_sum::{ROW_UNITS, cube_max, cube_sum};
use super::launch::cube_count;
use super::tensors::{buffer, dims, elem_type, empty, empty_like};
use crate::sizes::{MAX_LOGIT_ROWS, MAX_LOGITS};

/// Units of a cube that works on one row of logits.
const UNITS: usize = 256;

/// The summed loss, `[1]`, and with `want_gradient` the gradient of `hidden`.
///
/// # Shapes
/// - `hidden`: `[n, columns]`, at least one row
/// - `head`: `[vocab, columns]`, f32
/// - `labels`: `[n]`, integers
pub(super) fn cross_entropy(
    hidden: &CubeTensor,
    head: &CubeTensor,
    labels: &CubeTensor,
    want_gradient: bool,
) -> (CubeTensor, Option<CubeTensor>) {
    let [n, columns] = dims(hidden);
    let [vocab, head_columns] = dims(head);
    assert_eq!(columns, head_columns, "columns of the hidden states and of the head");
    assert_eq!(labels.meta.num_elements(), n, "labels and rows");
    let losses = empty(hidden, [n]);
    let transposed = CubeBackend::float_transpose(head.clone());
    let chunk = (MAX_LOGITS / vocab).clamp(1, MAX_LOGIT_ROWS);
    let mut gradients = Vec::new();
    for first in (0..n).step_by(chunk) {
        let rows = chunk.min(n - first);
        let part = [Slice::from(first..first + rows), Slice::from(0..columns)];
        let part = CubeBackend::float_slice(hidden.clone(), &part);
        let logits = CubeBackend::float_matmul(part, transposed.clone());
        let logits = burn_cubecl::kernel::into_contiguous(logits);
        // SAFETY: `logits` has `rows` rows of `vocab` elements, `labels` and `losses` have `n`
        // elements. Labels are tokens of the vocabulary.
        unsafe {
            loss_kernel::launch_unchecked(
                &hidden.client,
                cube_count(rows),
                CubeDim::new_1d(UNITS as u32),
                buffer(&logits),
                buffer(labels),
                buffer(&losses),
                rows as u32,
                vocab as u32,
                first as u32,
                want_gradient,
                elem_type(labels),
            );
        }
        if want_gradient {
            gradients.push(CubeBackend::float_matmul(logits, head.clone()));
        }
    }
    let loss = empty(hidden, [1]);
    // SAFETY: `losses` has `n` elements.
    unsafe {
        sum_kernel::launch_unchecked(
            &hidden.client,
            cube_count(1),
            CubeDim::new_1d(ROW_UNITS as u32),
            buffer(&losses),
            buffer(&loss),
            n as u32,
        );
    }
    let gradient = match gradients.len() {
        0 => want_gradient.then(|| empty_like(hidden)),
        1 => gradients.pop(),
        _ => Some(CubeBackend::float_cat(gradients, 0)),
    };
    (loss, gradient)
}

/// Losses of rows of logits; with `want_gradient` the logits become their gradient.
#[cube(launch_unchecked)]
fn loss_kernel<I: Int>(
    logits: &mut [f32],
    labels: &[I],
    losses: &mut [f32],
    rows: u32,
    vocab: u32,
    first_row: u32,
    #[comptime] want_gradient: bool,
    #[define(I)] _label_type: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let mut scratch = Shared::<[f32]>::new_slice(2 * UNITS);
    let vocab = vocab as usize;
    let first = row * vocab;
    let label = u32::cast_from(labels[first_row as usize + row]) as usize;

    let mut max = f32::new(-1e30f32);
    let mut column = UNIT_POS as usize;
    while column < vocab {
        let logit = logits[first + column];
        if logit > max {
            max = logit;
        }
        column += UNITS;
    }
    let max = cube_max(max, &mut scratch, 0usize, UNITS);
    let mut sum = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < vocab {
        sum += (logits[first + column] - max).exp();
        column += UNITS;
    }
    let sum = cube_sum(sum, &mut scratch, 1usize, UNITS);
    if UNIT_POS == 0 {
        losses[first_row as usize + row] = max + sum.ln() - logits[first + label];
    }
    if want_gradient {
        sync_cube();
        let mut column = UNIT_POS as usize;
        while column < vocab {
            let mut gradient = (logits[first + column] - max).exp() / sum;
            if column == label {
                gradient -= 1.0f32;
            }
            logits[first + column] = gradient;
            column += UNITS;
        }
    }
}

/// The sum of all elements, by one cube.
#[cube(launch_unchecked)]
fn sum_kernel(values: &[f32], total: &mut [f32], elements: u32) {
    let mut scratch = Shared::<[f32]>::new_slice(2 * ROW_UNITS);
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < elements as usize {
        sum += values[at];
        at += ROW_UNITS;
    }
    let sum = cube_sum(sum, &mut scratch, 0usize, ROW_UNITS);
    if UNIT_POS == 0 {
        total[0] = sum;
    }
}
