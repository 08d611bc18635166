//! Layers that a format cannot leave out.

use crate::error::{Error, Result};
use crate::parts::{PromptData, PromptLayerData};

/// Adds prompts with zero gates, which have no effect, to the layers between the first adapted layer and
/// the last one, or the model's last layer if `n_layers` is known.
///
/// # Errors
/// [`Error::Config`] for sizes that no model has.
pub(crate) fn fill_missing_layers(prompts: &mut PromptData, n_layers: Option<usize>) -> Result<()> {
    /// Layers of the largest model.
    const MAX_LAYERS: usize = 1 << 12;
    let Some((&first, own)) = prompts.layers.first_key_value() else { return Ok(()) };
    let highest = prompts.layers.keys().next_back().copied().unwrap_or(first);
    let end = n_layers.unwrap_or(highest.saturating_add(1));
    let count = end.saturating_sub(first);
    if count > MAX_LAYERS {
        let expected = "at most 4096, including the layers between adapted ones";
        return Err(Error::Config { field: "layers", found: count.to_string(), expected });
    }
    let values_per_layer = own.prompt.len() + own.gate.len();
    check_expansion(prompts.layers.len() * values_per_layer, count.checked_mul(values_per_layer))?;
    let zero_gated = PromptLayerData {
        prompt: vec![0.0; own.prompt.len()],
        gate: vec![0.0; own.gate.len()],
        factor: None,
    };
    for layer in first..end {
        prompts.layers.entry(layer).or_insert_with(|| zero_gated.clone());
    }
    Ok(())
}

/// Refuses to add far more values than there are, which only wrong sizes in a file can ask for:
/// `expanded` values from the `present` ones.
///
/// # Errors
/// [`Error::Config`]
pub(crate) fn check_expansion(present: usize, expanded: Option<usize>) -> Result<()> {
    /// Allowed for any number of present values.
    const ALWAYS_ALLOWED: usize = 1 << 24;
    const MAX_EXPANSION: usize = 256;
    let max = present.saturating_mul(MAX_EXPANSION).max(ALWAYS_ALLOWED);
    if expanded.is_some_and(|expanded| expanded <= max) {
        return Ok(());
    }
    let found = expanded.map_or("too many".into(), |expanded| expanded.to_string());
    let expected = "at most 256 times the adapter's parameters: the sizes of its base are wrong";
    Err(Error::Config { field: "the number of values in the format", found, expected })
}
