//! Adapters in the form that PEFT can compute.

use crate::adapter::data::AdapterData;
use crate::error::Result;
use crate::files::gates::{average_gates, fold_gate_activation};
use crate::files::layers::fill_missing_layers;
use crate::parts::{PartKind, PromptData};

/// Whether PEFT's own code loads the adapter and computes the same.
pub fn is_peft_compatible(data: &AdapterData) -> bool {
    let kinds = data.kinds();
    match (&kinds[..], &data.prompts) {
        ([PartKind::Prompts], Some(prompts)) => {
            prompts.is_peft_compatible() && ends_at_last_layer(data, prompts)
        }
        ([PartKind::Lora], _) => has_unfused_linears(data),
        _ => false,
    }
}

/// Whether the prompts are in the model's last layers, if its number of layers is known. PEFT adapts no
/// other layers, and ignores prompts of other layers without an error.
fn ends_at_last_layer(data: &AdapterData, prompts: &PromptData) -> bool {
    let last = prompts.layers.keys().next_back();
    data.base.sizes.as_ref().is_none_or(|sizes| last == sizes.n_layers.checked_sub(1).as_ref())
}

/// Whether each linear layer is a module of its own in transformers. PEFT's LoRA of a fused module is not
/// the same as LoRA of its linear layers.
fn has_unfused_linears(data: &AdapterData) -> bool {
    !data.base.architecture.is_some_and(llama::config::Architecture::has_fused_linears)
}

/// Makes the adapter one that PEFT can compute.
///
/// # Errors
/// As [`fill_missing_layers`].
pub(in crate::files) fn convert(data: &mut AdapterData, losses: &mut Vec<String>) -> Result<()> {
    if is_peft_compatible(data) {
        return Ok(());
    }
    let n_layers = data.base.sizes.as_ref().map(|sizes| sizes.n_layers);
    if data.prompts.is_some() {
        // A folder of PEFT has one method.
        losses.extend(data.remove(PartKind::Lora));
    }
    if let Some(prompts) = &mut data.prompts {
        fold_gate_activation(prompts);
        average_gates(prompts, losses);
        fill_missing_layers(prompts, n_layers)?;
    } else if let Some(lora) = data.lora.take() {
        let linears = lora.pairs.len();
        losses.push(format!("LoRA on {linears} linear layers, which are fused in this model"));
    }
    Ok(())
}
