//! Output head and summed cross-entropy, a chunk of rows at a time: only a chunk's logits are in
//! memory.
//!
//! ```text
//! chunk of hidden rows ─► head ─► logits ─► softmax ─► loss
//!                                              └─► - one-hot label ─► · head ─► d_hidden
//! ```

use super::elementwise::map_inplace;
use super::gemm::{gemm, gemm_backward};
use super::packed_matrix::PackedMatrix;
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{self, SharedSlice};
use super::workspace;
use crate::sizes::{MAX_LOGIT_ROWS, MAX_LOGITS};

/// The summed negative log-likelihood of the labels, in nats.
///
/// # Shapes
/// - `hidden`: `[n, columns of the head]`
/// - `labels`: `[n]`, row indices of the head
/// - `d_hidden`, overwritten by the gradient of `hidden`: as `hidden`
///
/// # Panics
/// If lengths do not match, or a label is not below the number of rows of the head.
pub fn cross_entropy(
    level: SimdLevel,
    hidden: &[f32],
    head: &PackedMatrix,
    labels: &[usize],
    mut d_hidden: Option<&mut [f32]>,
) -> f64 {
    let [vocab, width] = head.dims();
    assert_eq!(
        hidden.len(),
        labels.len() * width,
        "hidden rows of {width} and labels differ in number"
    );
    assert!(labels.iter().all(|&label| label < vocab), "a label is not below {vocab}");
    if let Some(d_hidden) = &d_hidden {
        assert_eq!(d_hidden.len(), hidden.len(), "elements of the gradient");
    }
    let max_rows = (MAX_LOGITS / vocab).clamp(1, MAX_LOGIT_ROWS);
    // Chunks of equal size, since each reads the whole head.
    let rows_per_chunk = labels.len().div_ceil(labels.len().div_ceil(max_rows).max(1)).max(1);
    let mut sum = 0.0;
    for (chunk, labels) in labels.chunks(rows_per_chunk).enumerate() {
        let first = chunk * rows_per_chunk;
        let rows = first * width..(first + labels.len()) * width;
        workspace::with_buffer(labels.len() * vocab, |logits| {
            gemm(level, &hidden[rows.clone()], &[head], logits, false);
            sum += cross_entropy_rows(level, logits, labels, d_hidden.is_some());
            if let Some(d_hidden) = &mut d_hidden {
                gemm_backward(level, logits, &[head], &mut d_hidden[rows], false);
            }
        });
    }
    sum
}

/// The summed loss of rows of logits. If `gradients` is set, the logits are replaced by their
/// gradients.
fn cross_entropy_rows(
    level: SimdLevel,
    logits: &mut [f32],
    labels: &[usize],
    gradients: bool,
) -> f64 {
    let vocab = logits.len() / labels.len();
    let mut losses = vec![0.0; labels.len()];
    let shared = (SharedSlice::new(logits), SharedSlice::new(&mut losses));
    threads::parallel_for(labels.len(), |row| {
        // SAFETY: each task accesses the logits and the loss of its own row.
        let (logits, loss) =
            unsafe { (shared.0.slice_mut(row * vocab, vocab), shared.1.slice_mut(row, 1)) };
        let label = labels[row];
        loss[0] = dispatch!(level, simd => cross_entropy_row(simd, logits, label, gradients));
    });
    losses.iter().sum()
}

/// The loss of one row of logits, see [`cross_entropy_rows`].
#[inline(always)]
fn cross_entropy_row<S: Simd>(simd: S, row: &mut [f32], label: usize, gradients: bool) -> f64 {
    let largest = row
        .chunks_exact(S::LANES)
        .fold(simd.splat(f32::NEG_INFINITY), |largest, part| simd.max(largest, simd.read(part)));
    let whole = row.len() / S::LANES * S::LANES;
    let rest = row[whole..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = simd.reduce_max(largest).max(rest);
    let target_logit = f64::from(row[label]);
    let shift = simd.splat(-largest);
    // Partial sums in f64: a vocabulary is too long for one sum in f32.
    let mut total = 0.0;
    for part in row.chunks_mut(1024) {
        let mut sum = simd.splat(0.0);
        let whole = part.len() / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let value = simd.exp(simd.add(simd.read(&part[at..]), shift));
            simd.write(&mut part[at..], value);
            sum = simd.add(sum, value);
        }
        let mut rest = 0.0;
        for value in &mut part[whole..] {
            *value = (*value - largest).exp();
            rest += *value;
        }
        total += f64::from(simd.reduce_sum(sum)) + f64::from(rest);
    }
    if gradients {
        let scale = simd.splat((1.0 / total) as f32);
        map_inplace(
            simd,
            row,
            #[inline(always)]
            |value| simd.mul(value, scale),
        );
        row[label] -= 1.0;
    }
    total.ln() + f64::from(largest) - target_logit
}
