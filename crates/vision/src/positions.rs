//! Learned places of patches, stretched to another number of patches.

/// Weights of the four neighbours of a place, `fraction` behind the second one.
///
/// Source: R. Keys, "Cubic convolution interpolation", with a = -0.75 as PyTorch has it.
fn cubic(fraction: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(fraction + 1.0), near(fraction), near(1.0 - fraction), far(2.0 - fraction)]
}

/// For each of `to` places, the neighbours among `from` ones and their weights.
fn taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    let scale = from as f64 / to as f64;
    let at = |place: usize| {
        let source = (place as f64 + 0.5) * scale - 0.5;
        let first = source.floor();
        let weights = cubic(source - first);
        std::array::from_fn(|tap| {
            let neighbour = first as i64 - 1 + tap as i64;
            (neighbour.clamp(0, from as i64 - 1) as usize, weights[tap])
        })
    };
    (0..to).map(at).collect()
}

/// A square of `from x from` places to one of `to x to`.
///
/// # Shapes
/// - `places`: `[from * from, width]`
/// - output: `[to * to, width]`
///
/// Source: PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
pub(crate) fn stretch(places: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    assert_eq!(places.len(), from * from * width, "a square of places");
    if from == to {
        return places.to_vec();
    }
    let taps = taps(from, to);
    let mut out = Vec::with_capacity(to * to * width);
    for rows in &taps {
        for columns in &taps {
            for channel in 0..width {
                let at = |row: usize, column: usize| {
                    f64::from(places[(row * from + column) * width + channel])
                };
                let along = |row: usize| -> f64 {
                    columns.iter().map(|&(column, weight)| at(row, column) * weight).sum()
                };
                out.push(rows.iter().map(|&(row, weight)| along(row) * weight).sum::<f64>() as f32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_places_are_the_same_and_even_ones_stay_even() {
        let places = (0..18).map(|i| i as f32).collect::<Vec<_>>();
        assert_eq!(stretch(&places, 2, 3, 3), places);
        for value in stretch(&[2.5; 9], 1, 3, 7) {
            assert!((value - 2.5).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn a_row_is_stretched_as_pytorch_does() {
        // torch.nn.functional.interpolate(torch.arange(4.).reshape(1, 1, 2, 2), size=(3, 3),
        // mode="bicubic", align_corners=False)
        let expected = [
            -0.260_417, 0.326_389, 0.913_194, 0.913_194, 1.5, 2.086_806, 2.086_806, 2.673_611,
            3.260_417,
        ];
        let found = stretch(&[0.0, 1.0, 2.0, 3.0], 1, 2, 3);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }
}
