//! Gates in the form that a format needs.

use llama::config::ModelShape;

use super::layers::check_expansion;
use crate::error::Result;
use crate::gate::{Gate, GateActivation};
use crate::parts::PromptData;

/// Applies activation and factor to the gates, which then multiply as they are.
pub(crate) fn fold_gate_activation(prompts: &mut PromptData) {
    let gates = prompts.layers.values().map(|own| prompts.effective_gates(own));
    let gates = gates.collect::<Vec<_>>();
    for (own, gate) in prompts.layers.values_mut().zip(gates) {
        (own.gate, own.factor) = (gate, None);
    }
    prompts.activation = GateActivation::Identity;
}

/// Gates with tanh as their activation. Gates outside of tanh's range are clipped, which is a loss.
pub(crate) fn to_tanh_gates(prompts: &mut PromptData, losses: &mut Vec<String>) {
    /// The largest value of tanh that a gate is clipped to.
    const MAX_TANH: f64 = 0.999_999;
    let already_tanh = prompts.activation == GateActivation::Tanh
        && prompts.layers.values().all(|own| own.factor.is_none());
    if already_tanh {
        return;
    }
    fold_gate_activation(prompts);
    prompts.activation = GateActivation::Tanh;
    for (layer, own) in &mut prompts.layers {
        let max = own.gate.iter().copied().fold(0.0, |max: f32, gate| max.max(gate.abs()));
        if max >= 1.0 {
            losses.push(format!(
                "gates of layer {layer}, of up to {max}: tanh stays between -1 and 1"
            ));
        }
        for gate in &mut own.gate {
            let target = f64::from(*gate);
            let target = if target.abs() < 1.0 { target } else { target.signum() * MAX_TANH };
            *gate = target.atanh() as f32;
        }
    }
}

/// One gate per layer: the mean of its heads, which is a loss if they differ.
pub(crate) fn average_gates(prompts: &mut PromptData, losses: &mut Vec<String>) {
    prompts.gate = Gate::Scalar;
    for (layer, own) in &mut prompts.layers {
        let (min, max) = own
            .gate
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |found, &x| (found.0.min(x), found.1.max(x)));
        if min < max {
            losses.push(format!(
                "gates of layer {layer} differ by head, {min} to {max}: their mean is kept"
            ));
        }
        let mean =
            if min < max { own.gate.iter().sum::<f32>() / own.gate.len() as f32 } else { min };
        own.gate = vec![mean];
    }
}

/// Gates per head: equal ones from one gate per layer.
///
/// # Errors
/// As [`check_expansion`].
pub(crate) fn broadcast_gates(prompts: &mut PromptData, sizes: &ModelShape) -> Result<()> {
    if prompts.gate == Gate::Scalar {
        let present = prompts.layers.values().map(|own| own.prompt.len()).sum();
        check_expansion(present, prompts.layers.len().checked_mul(sizes.n_heads))?;
        for own in prompts.layers.values_mut() {
            own.gate = vec![own.gate[0]; sizes.n_heads];
        }
        prompts.gate = Gate::PerHead;
    }
    Ok(())
}
