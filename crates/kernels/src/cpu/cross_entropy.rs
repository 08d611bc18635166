//! Output head and cross-entropy of labelled rows, some rows at a time: all logits are never there.
//!
//! ```text
//! 128 hidden rows ─► head ─► logits ─► softmax ─► loss
//!                                         └─► minus the label ─► · head ─► gradient of the rows
//! ```

use super::norm::map;
use super::packed::Packed;
use super::product::{product, product_back};
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{self, Shared};
use super::workspace;

/// Logits that are there at a time: 24 MiB.
const LOGITS: usize = 6 << 20;

/// The sum of the labels' negative log-likelihoods, in nats.
///
/// # Shapes
/// - `hidden`: `[n, columns of the head]`
/// - `labels`: `[n]`, rows of the head
/// - `d_hidden`, the gradient of `hidden`, if it is wanted: as `hidden`
///
/// # Panics
/// If lengths do not fit, or a label is no row of the head.
pub fn cross_entropy(
    level: SimdLevel,
    hidden: &[f32],
    head: &Packed,
    labels: &[usize],
    mut d_hidden: Option<&mut [f32]>,
) -> f64 {
    let [vocab, width] = head.dims();
    assert_eq!(hidden.len(), labels.len() * width, "one label for each row of {width}");
    assert!(labels.iter().all(|&label| label < vocab), "labels below {vocab}");
    if let Some(d_hidden) = &d_hidden {
        assert_eq!(d_hidden.len(), hidden.len(), "numbers of the gradient");
    }
    let most = (LOGITS / vocab).clamp(1, 512);
    // Parts of one size: each reads the whole head.
    let at_once = labels.len().div_ceil(labels.len().div_ceil(most).max(1)).max(1);
    let mut sum = 0.0;
    for (part, labels) in labels.chunks(at_once).enumerate() {
        let rows = part * at_once * width..(part * at_once + labels.len()) * width;
        workspace::with(labels.len() * vocab, |logits| {
            product(level, &hidden[rows.clone()], &[head], logits, false);
            sum += softmax_rows(level, logits, labels, d_hidden.is_some());
            if let Some(d_hidden) = &mut d_hidden {
                product_back(level, logits, &[head], &mut d_hidden[rows], false);
            }
        });
    }
    sum
}

/// The loss of rows of logits, which become its gradients where those are wanted.
fn softmax_rows(level: SimdLevel, logits: &mut [f32], labels: &[usize], gradients: bool) -> f64 {
    let vocab = logits.len() / labels.len();
    let mut losses = vec![0.0; labels.len()];
    let shared = (Shared::new(logits), Shared::new(&mut losses));
    threads::for_each(labels.len(), |row| {
        // SAFETY: each task has a row of its own.
        let (row, loss) =
            unsafe { (shared.0.part(row * vocab, vocab), (row, shared.1.part(row, 1))) };
        let (label, loss) = (labels[loss.0], loss.1);
        loss[0] = dispatch!(level, simd => one_row(simd, row, label, gradients));
    });
    losses.iter().sum()
}

#[inline(always)]
fn one_row<S: Simd>(simd: S, row: &mut [f32], label: usize, gradients: bool) -> f64 {
    let largest = row
        .chunks_exact(S::LANES)
        .fold(simd.splat(f32::NEG_INFINITY), |largest, part| simd.max(largest, simd.read(part)));
    let whole = row.len() / S::LANES * S::LANES;
    let rest = row[whole..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = simd.largest(largest).max(rest);
    let wanted = f64::from(row[label]);
    let shift = simd.splat(-largest);
    // Added up in parts: a vocabulary is too long for one sum in f32.
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
        total += f64::from(simd.sum(sum)) + f64::from(rest);
    }
    if gradients {
        let scale = simd.splat((1.0 / total) as f32);
        map(
            simd,
            row,
            #[inline(always)]
            |value| simd.mul(value, scale),
        );
        row[label] -= 1.0;
    }
    total.ln() + f64::from(largest) - wanted
}
