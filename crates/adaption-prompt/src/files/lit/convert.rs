//! Adapters in the form that lit-llama's and litgpt's files can hold.

use llama::LinearName;
use llama::config::ModelShape;

use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::files::gates::{broadcast_gates, fold_gate_activation};
use crate::files::layers::{check_expansion, fill_missing_layers};
use crate::part::PartData;
use crate::parts::{V2Data, V2Scale};

/// Makes the adapter one that a file can hold: gates per head without activation, up to the model's last
/// layer; output scales, and norms without biases.
///
/// # Errors
/// [`Error::MissingBaseInfo`]; as [`fill_missing_layers`] and [`broadcast_gates`].
pub(in crate::files) fn convert(
    data: &mut AdapterData,
    to: &'static str,
    losses: &mut Vec<String>,
) -> Result<()> {
    let required = "the model's number of heads";
    let sizes = data.base.sizes.as_ref().ok_or(Error::MissingBaseInfo { to, required })?;
    if let Some(v2) = &mut data.v2 {
        if v2.scale == V2Scale::Input {
            losses.push("scales on the inputs of linear layers".into());
            v2.linears.values_mut().for_each(|own| own.scale = None);
            v2.scale = V2Scale::Output;
        }
        check_v2_expansion(v2, sizes)?;
        let biases = v2.norms.values_mut().filter_map(|own| own.bias.take()).count();
        if biases > 0 {
            losses.push(format!("biases of {biases} norms"));
        }
    }
    if let Some(prompts) = &mut data.prompts {
        fold_gate_activation(prompts);
        fill_missing_layers(prompts, Some(sizes.n_layers))?;
        broadcast_gates(prompts, sizes)?;
    }
    Ok(())
}

/// A file has every scale and bias of Adapter V2, in every layer.
fn check_v2_expansion(v2: &V2Data, sizes: &ModelShape) -> Result<()> {
    let rows = LinearName::ALL_IN_LAYER.iter().map(|&name| sizes.linear_shape(name)[0]);
    let per_layer = rows.fold(0_usize, usize::saturating_add);
    let expanded = per_layer.checked_mul(2).and_then(|own| own.checked_mul(sizes.n_layers));
    check_expansion(v2.n_parameters(), expanded)
}
