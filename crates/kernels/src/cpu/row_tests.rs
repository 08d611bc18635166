//! Norm, SwiGLU and cross-entropy at every level: values in f64, gradients by finite differences.

use super::cross_entropy::cross_entropy;
use super::norm::{rms_norm, rms_norm_backward};
use super::packed::{Format, Packed};
use super::product_tests::noise;
use super::simd::SimdLevel;
use super::swiglu::{swiglu, swiglu_backward};

/// Compares a gradient with differences of a loss in f64.
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

fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{what}: {found}, not {expected}");
    }
}

fn weighted(values: &[f64], weights: &[f32]) -> f64 {
    values.iter().zip(weights).map(|(value, weight)| value * f64::from(*weight)).sum()
}

#[test]
fn norm_of_rows() {
    for width in [1, 8, 21, 40] {
        let (x, weight, d_out) = (noise(1, 3 * width), noise(2, width), noise(3, 3 * width));
        let reference = |x: &[f64]| -> Vec<f64> {
            let row = |x: &[f64]| {
                let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scale = 1.0 / (mean + 1e-3).sqrt();
                x.iter().zip(&weight).map(|(x, w)| x * scale * f64::from(*w)).collect::<Vec<_>>()
            };
            x.chunks(width).flat_map(row).collect()
        };
        let wide = x.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let (mut out, mut d_x) = (vec![0.0; 3 * width], vec![0.0; 3 * width]);
            rms_norm(level, &x, &weight, 1e-3, &mut out);
            assert_close("norm", &out, &reference(&wide));
            rms_norm_backward(level, &x, &weight, 1e-3, &d_out, &mut d_x);
            check_gradient("norm", &x, &d_x, |x| weighted(&reference(x), &d_out));
        }
    }
}

#[test]
fn gates_and_ups() {
    for width in [1, 8, 21] {
        let (both, d_out) = (noise(4, 2 * 2 * width), noise(5, 2 * width));
        let reference = |both: &[f64]| -> Vec<f64> {
            let row = |both: &[f64]| {
                let one = |i: usize| both[i] / (1.0 + (-both[i]).exp()) * both[width + i];
                (0..width).map(one).collect::<Vec<_>>()
            };
            both.chunks(2 * width).flat_map(row).collect()
        };
        let wide = both.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let (mut out, mut d_both) = (vec![0.0; 2 * width], vec![0.0; 4 * width]);
            swiglu(level, &both, width, &mut out);
            assert_close("swiglu", &out, &reference(&wide));
            swiglu_backward(level, &both, width, &d_out, &mut d_both);
            check_gradient("swiglu", &both, &d_both, |both| weighted(&reference(both), &d_out));
        }
    }
}

#[test]
fn losses_of_labels() {
    for (rows, width, vocab) in [(1, 3, 5), (4, 20, 37), (7, 16, 1030)] {
        let head = Packed::new(&noise(6, vocab * width), [vocab, width], Format::F32);
        let weights = head.to_dense();
        let hidden = noise(7, rows * width);
        let labels = (0..rows).map(|row| row * 31 % vocab).collect::<Vec<_>>();
        let reference = |hidden: &[f64]| -> f64 {
            let row = |(hidden, &label): (&[f64], &usize)| {
                let logits = weights.chunks(width).map(|weight| weighted(hidden, weight));
                let logits = logits.collect::<Vec<_>>();
                logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[label]
            };
            hidden.chunks(width).zip(&labels).map(row).sum()
        };
        let wide = hidden.iter().copied().map(f64::from).collect::<Vec<_>>();
        for level in SimdLevel::available() {
            let mut d_hidden = vec![0.0; hidden.len()];
            let loss = cross_entropy(level, &hidden, &head, &labels, Some(&mut d_hidden));
            let right = reference(&wide);
            assert!((loss - right).abs() < 1e-5 * right, "{loss} instead of {right}");
            assert_eq!(cross_entropy(level, &hidden, &head, &labels, None), loss);
            check_gradient("cross-entropy", &hidden, &d_hidden, reference);
        }
    }
}
