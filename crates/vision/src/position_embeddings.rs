//! Interpolation of learned position embeddings to another patch grid.

use crate::cubic::cubic_kernel;

/// For each of `to` positions, four neighbors among `from` positions with their weights.
///
/// `a = -0.75` as in PyTorch.
fn taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    const A: f64 = -0.75;
    let scale = from as f64 / to as f64;
    let taps_at = |position: usize| {
        let source = (position as f64 + 0.5) * scale - 0.5;
        let first = source.floor() as i64 - 1;
        std::array::from_fn(|tap| {
            let neighbor = first + tap as i64;
            let weight = cubic_kernel(source - neighbor as f64, A);
            (neighbor.clamp(0, from as i64 - 1) as usize, weight)
        })
    };
    (0..to).map(taps_at).collect()
}

/// Interpolates the embeddings of a `from x from` grid to a `to x to` grid, bicubically.
///
/// # Shapes
/// - `embeddings`: `[from * from, width]`
/// - output: `[to * to, width]`
///
/// # Panics
/// If the length of `embeddings` is not `from * from * width`.
///
/// Source: PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
pub(crate) fn interpolate(embeddings: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    assert_eq!(embeddings.len(), from * from * width, "embeddings of a square grid");
    if from == to {
        return embeddings.to_vec();
    }
    let taps = taps(from, to);
    let mut output = Vec::with_capacity(to * to * width);
    for rows in &taps {
        for columns in &taps {
            for channel in 0..width {
                let value = |row: usize, column: usize| {
                    f64::from(embeddings[(row * from + column) * width + channel])
                };
                let interpolate_row = |row: usize| -> f64 {
                    columns.iter().map(|&(column, weight)| value(row, column) * weight).sum()
                };
                let sum = rows.iter().map(|&(row, weight)| interpolate_row(row) * weight);
                output.push(sum.sum::<f64>() as f32);
            }
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_grid_is_unchanged_and_constants_stay_constant() {
        let embeddings = (0..18).map(|i| i as f32).collect::<Vec<_>>();
        assert_eq!(interpolate(&embeddings, 2, 3, 3), embeddings);
        for value in interpolate(&[2.5; 9], 1, 3, 7) {
            assert!((value - 2.5).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn interpolation_equals_pytorch() {
        // torch.nn.functional.interpolate(torch.arange(4.).reshape(1, 1, 2, 2), size=(3, 3),
        // mode="bicubic", align_corners=False)
        let expected = [
            -0.260_417, 0.326_389, 0.913_194, 0.913_194, 1.5, 2.086_806, 2.086_806, 2.673_611,
            3.260_417,
        ];
        let found = interpolate(&[0.0, 1.0, 2.0, 3.0], 1, 2, 3);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    }
}
