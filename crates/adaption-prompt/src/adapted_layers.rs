//! Layers of a model that an adapter modifies.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A set of a model's layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdaptedLayers {
    /// The last layers, as in the paper.
    Last(usize),
    /// Layer indices in ascending order, counted from 0.
    Chosen(Vec<usize>),
}

/// More layers than any model has.
const MAX_LAYERS: usize = 1 << 16;

impl AdaptedLayers {
    /// Number of layers.
    pub fn count(&self) -> usize {
        match self {
            Self::Last(count) => *count,
            Self::Chosen(layers) => layers.len(),
        }
    }

    /// Indices in a model of `n_layers` layers, in ascending order.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`], [`Error::NoSuchLayer`], or [`Error::Config`] for an empty set or
    /// indices that are not ascending.
    pub fn indices(&self, n_layers: usize) -> Result<Vec<usize>> {
        if !(1..=MAX_LAYERS).contains(&self.count()) {
            let field = "adapter_layers";
            let found = self.count().to_string();
            return Err(Error::Config { field, found, expected: "1 to 65536" });
        }
        match self {
            Self::Last(count) if *count > n_layers => {
                Err(Error::TooManyLayers { requested: *count, available: n_layers })
            }
            Self::Last(count) => Ok((n_layers - count..n_layers).collect()),
            Self::Chosen(layers) => {
                if !layers.is_sorted_by(|a, b| a < b) {
                    let found = format!("{layers:?}");
                    let expected = "distinct indices in ascending order";
                    return Err(Error::Config { field: "layers", found, expected });
                }
                match layers.iter().find(|layer| **layer >= n_layers) {
                    Some(&layer) => Err(Error::NoSuchLayer { layer, available: n_layers }),
                    None => Ok(layers.clone()),
                }
            }
        }
    }

    /// The shortest form of some layers of a model; `indices` are ascending.
    pub(crate) fn from_indices(indices: &[usize], n_layers: usize) -> Self {
        let first = n_layers.checked_sub(indices.len());
        match first {
            Some(first) if indices.iter().copied().eq(first..n_layers) => Self::Last(indices.len()),
            _ => Self::Chosen(indices.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layers_are_counted_from_the_end() {
        assert_eq!(AdaptedLayers::Last(2).indices(5).unwrap(), [3, 4]);
        assert_eq!(AdaptedLayers::from_indices(&[3, 4], 5), AdaptedLayers::Last(2));
        assert_eq!(AdaptedLayers::from_indices(&[2, 4], 5), AdaptedLayers::Chosen(vec![2, 4]));
    }

    #[test]
    fn layers_outside_of_the_model_are_refused() {
        let message = |layers: AdaptedLayers| layers.indices(3).unwrap_err().to_string();
        assert_eq!(
            message(AdaptedLayers::Last(4)),
            "the adapter has 4 adapted layers, the model has 3 layers"
        );
        assert_eq!(
            message(AdaptedLayers::Chosen(vec![0, 3])),
            "the adapter has adapted layer 3, the model has layers 0 to 2"
        );
        assert!(message(AdaptedLayers::Chosen(vec![1, 1])).contains("ascending order"));
        assert!(message(AdaptedLayers::Chosen(vec![])).contains("is 0, expected 1 to 65536"));
    }
}
