//! Adapters in the form that the original release's file can hold.

use super::n_layers_is_recoverable;
use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::files::gates::{broadcast_gates, fold_gate_activation, to_tanh_gates};
use crate::files::layers::fill_missing_layers;
use crate::gate::GateActivation;
use crate::parts::PromptData;

/// Makes the prompts ones that a file can hold: gates per head with the given activation, up to the model's
/// last layer.
///
/// # Errors
/// [`Error::MissingBaseInfo`]; as [`fill_missing_layers`] and [`broadcast_gates`].
pub(in crate::files) fn convert(
    data: &mut AdapterData,
    to: &'static str,
    activation: GateActivation,
    losses: &mut Vec<String>,
) -> Result<()> {
    let required = "the model's number of layers and heads";
    let sizes = data.base.sizes.as_ref().ok_or(Error::MissingBaseInfo { to, required })?;
    if let Some(prompts) = &mut data.prompts {
        match activation {
            GateActivation::Identity => fold_gate_activation(prompts),
            GateActivation::Tanh => to_tanh_gates(prompts, losses),
        }
        fill_missing_layers(prompts, Some(sizes.n_layers))?;
        broadcast_gates(prompts, sizes)?;
        if !n_layers_is_recoverable(prompts, sizes.n_layers) {
            drop_zero_gated_layers(prompts, losses);
        }
    }
    data.prompts = data.prompts.take().filter(|prompts| !prompts.layers.is_empty());
    Ok(())
}

/// Removes the lowest prompts if their gates are zero, so that they have no effect.
fn drop_zero_gated_layers(prompts: &mut PromptData, losses: &mut Vec<String>) {
    let zero_gated =
        prompts.layers.iter().take_while(|(_, own)| own.gate.iter().all(|&x| x == 0.0));
    let zero_gated = zero_gated.map(|(layer, _)| *layer).collect::<Vec<_>>();
    prompts.layers.retain(|layer, _| !zero_gated.contains(layer));
    let layers = zero_gated.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    losses.push(format!(
        "prompts of layers {layers}: their gates are 0, so that the file could not mark these layers \
         as adapted"
    ));
}
