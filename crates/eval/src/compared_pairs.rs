//! Which models are compared.

/// The pairs of models to compare, by their indices: each model with the one before it, and with the
/// first, the base model.
///
/// ```
/// assert_eq!(eval::compared_pairs(3), [(0, 1), (1, 2), (0, 2)]);
/// ```
pub fn compared_pairs(models: usize) -> Vec<(usize, usize)> {
    let neighbors = (1..models).map(|second| (second - 1, second));
    neighbors.chain((2..models).map(|second| (0, second))).collect()
}
