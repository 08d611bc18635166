//! Norm, SwiGLU and cross-entropy at every level: values compared with f64, gradients with finite
//! differences.

use super::cross_entropy::cross_entropy;
use super::norm::{rms_norm, rms_norm_backward};
use super::packed_matrix::{DenseFormat, PackedMatrix};
use super::simd::SimdLevel;
use super::swiglu::{swiglu, swiglu_backward};
use super::test_numbers::{assert_close, pseudo_random};

const TOLERANCE: f64 = 1e-5;

/// Compares a gradient with finite differences of a loss in f64.
fn check_gradient(what: &str, x: &[f32], gradient: &[f32], loss: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let x = x.iter().copied().map(f64::from).collect::<Vec<_>>();
    for at in 0..x.len() {
        let moved = |by: f64| {
            let mut moved = x.clone();
            moved[at] += by;
            loss(&moved)
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let error = (f64::from(gradient[at]) - expected).abs();
        assert!(error < 2e-5, "{what}: {} instead of {expected} at {at}", gradient[at]);
    }
}

fn weighted(values: &[f64], weights: &[f32]) -> f64 {
    values.iter().zip(weights).map(|(value, weight)| value * f64::from(*weight)).sum()
}

#[test]
fn rms_norm_matches_the_reference() {
    for width in [1, 8, 21, 40] {
        let (x, weight, d_out) =
            (pseudo_random(1, 3 * width), pseudo_random(2, width), pseudo_random(3, 3 * width));
        let reference = |x: &[f64]| -> Vec<f64> {
            let row = |x: &[f64]| {
                let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scale = 1.0 / (mean + 1e-3).sqrt();
                x.iter().zip(&weight).map(|(x, w)| x * scale * f64::from(*w)).collect::<Vec<_>>()
            };
            x.chunks(width).flat_map(row).collect()
        };
        let x_f64 = x.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let (mut out, mut d_x) = (vec![0.0; 3 * width], vec![0.0; 3 * width]);
            rms_norm(level, &x, &weight, 1e-3, &mut out);
            assert_close("norm", &out, &reference(&x_f64), TOLERANCE);
            rms_norm_backward(level, &x, &weight, 1e-3, &d_out, &mut d_x);
            check_gradient("norm", &x, &d_x, |x| weighted(&reference(x), &d_out));
        }
    }
}

#[test]
fn swiglu_matches_the_reference() {
    for width in [1, 8, 21] {
        let (gate_up, d_out) = (pseudo_random(4, 2 * 2 * width), pseudo_random(5, 2 * width));
        let reference = |gate_up: &[f64]| -> Vec<f64> {
            let row = |gate_up: &[f64]| {
                let one = |i: usize| gate_up[i] / (1.0 + (-gate_up[i]).exp()) * gate_up[width + i];
                (0..width).map(one).collect::<Vec<_>>()
            };
            gate_up.chunks(2 * width).flat_map(row).collect()
        };
        let gate_up_f64 = gate_up.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let (mut out, mut d_gate_up) = (vec![0.0; 2 * width], vec![0.0; 4 * width]);
            swiglu(level, &gate_up, width, &mut out);
            assert_close("swiglu", &out, &reference(&gate_up_f64), TOLERANCE);
            swiglu_backward(level, &gate_up, width, &d_out, &mut d_gate_up);
            check_gradient("swiglu", &gate_up, &d_gate_up, |gate_up| {
                weighted(&reference(gate_up), &d_out)
            });
        }
    }
}

#[test]
fn cross_entropy_matches_the_reference() {
    for (rows, width, vocab) in [(1, 3, 5), (4, 20, 37), (7, 16, 1030)] {
        let head =
            PackedMatrix::new(&pseudo_random(6, vocab * width), [vocab, width], DenseFormat::F32);
        let weights = head.to_dense();
        let hidden = pseudo_random(7, rows * width);
        let labels = (0..rows).map(|row| row * 31 % vocab).collect::<Vec<_>>();
        let reference = |hidden: &[f64]| -> f64 {
            let row = |(hidden, &label): (&[f64], &usize)| {
                let logits = weights.chunks(width).map(|weight| weighted(hidden, weight));
                let logits = logits.collect::<Vec<_>>();
                logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[label]
            };
            hidden.chunks(width).zip(&labels).map(row).sum()
        };
        let hidden_f64 = hidden.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let mut d_hidden = vec![0.0; hidden.len()];
            let loss = cross_entropy(level, &hidden, &head, &labels, Some(&mut d_hidden));
            let expected = reference(&hidden_f64);
            assert!((loss - expected).abs() < 1e-5 * expected, "{loss} instead of {expected}");
            assert_eq!(cross_entropy(level, &hidden, &head, &labels, None), loss);
            check_gradient("cross-entropy", &hidden, &d_hidden, reference);
        }
    }
}
