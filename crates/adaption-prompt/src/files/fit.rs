//! What a format can hold of an adapter: an equal form of it, or what would be lost.

use llama::LinearName;
use llama::config::ModelShape;
use llama::model::NormName;

use super::format::Format;
use super::original;
use super::peft::is_peft_compatible;
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{AdapterData, PromptData, PromptLayerData, V2Data};
use crate::error::{Error, Result};
use crate::v2::V2Scale;

/// Largest gate that tanh is asked to reach where a larger one has to be cut.
const NEARLY_ONE: f64 = 0.999_999;

/// The adapter in a form that `format` can hold, and what was lost on the way.
///
/// `gates` is what the original release's gates pass through, for files of that format.
pub(crate) fn fit(
    mut data: AdapterData,
    format: Format,
    gates: GateActivation,
) -> Result<(AdapterData, Vec<String>)> {
    let to = format.name();
    let mut losses = Vec::new();
    let sizes = data.base.sizes.clone();
    let sizes = sizes.as_ref();
    match format {
        // The number of layers is what tells that a norm or a head is behind the last one.
        Format::LlamaAdapter if sizes.is_none() && reaches_behind(&data) => {
            return Err(Error::MissingBaseInfo { to, what: "the model's number of layers" });
        }
        Format::LlamaAdapter => return Ok((data, losses)),
        // Its own files of adapters that see images are read, not written.
        _ if data.image.is_some() => {
            data.image = None;
            let (rest, more) = fit(data, format, gates)?;
            return Ok((rest, [vec!["what makes it see images".into()], more].concat()));
        }
        Format::Peft | Format::PeftBin if is_peft_compatible(&data) => return Ok((data, losses)),
        Format::Peft | Format::PeftBin => {
            drop_v2(&mut data, &mut losses);
            if data.prompts.is_some() {
                drop_lora(&mut data, &mut losses);
            }
            if let Some(prompts) = &mut data.prompts {
                plain_gates(prompts);
                one_gate(prompts, &mut losses);
                close_gaps(prompts, sizes.map(|sizes| sizes.n_layers))?;
            } else if !is_peft_compatible(&data)
                && let Some(lora) = data.lora.take()
            {
                let places = lora.pairs.len();
                losses.push(format!(
                    "LoRA on {places} linear layers, of which this model has several in one"
                ));
            }
        }
        Format::Original => {
            drop_v2(&mut data, &mut losses);
            drop_lora(&mut data, &mut losses);
            let what = "the model's number of layers and heads";
            let sizes = sizes.ok_or(Error::MissingBaseInfo { to, what })?;
            if let Some(prompts) = &mut data.prompts {
                match gates {
                    GateActivation::Identity => plain_gates(prompts),
                    GateActivation::Tanh => tanh_gates(prompts, &mut losses),
                }
                close_gaps(prompts, Some(sizes.n_layers))?;
                gates_per_head(prompts, sizes)?;
                if !original::n_layers_is_recoverable(prompts, sizes.n_layers) {
                    drop_closed(prompts, &mut losses);
                }
            }
            data.prompts = data.prompts.filter(|prompts| !prompts.layers.is_empty());
        }
        Format::LitLlama | Format::Litgpt => {
            drop_lora(&mut data, &mut losses);
            let what = "the model's number of heads";
            let sizes = sizes.ok_or(Error::MissingBaseInfo { to, what })?;
            if let Some(v2) = data.v2.as_mut().filter(|v2| v2.scale == V2Scale::Input) {
                losses.push("scales on the inputs of linear layers".into());
                v2.linears.values_mut().for_each(|own| own.scale = None);
                v2.scale = V2Scale::Output;
            }
            if let Some(v2) = &mut data.v2 {
                check_v2(v2, sizes)?;
                let biases = v2.norms.values_mut().filter_map(|own| own.bias.take()).count();
                if biases > 0 {
                    losses.push(format!("biases of {biases} norms"));
                }
            }
            if let Some(prompts) = &mut data.prompts {
                plain_gates(prompts);
                close_gaps(prompts, Some(sizes.n_layers))?;
                gates_per_head(prompts, sizes)?;
            }
        }
    }
    usual_projection(&mut data, &mut losses);
    let of_gpt2 = data.base.architecture.is_some_and(|family| family.name == "gpt2");
    if of_gpt2 && !matches!(format, Format::Peft | Format::PeftBin) {
        losses.push("that the model is GPT-2, whose branch has no output projection".into());
    }
    if data.prompts.is_none() && data.v2.is_none() && data.lora.is_none() {
        // Nothing is left to write, with or without the user's leave.
        return Err(Error::NothingConvertible { to, losses });
    }
    Ok((data, losses))
}

/// Whether anything is learned behind the model's last layer.
fn reaches_behind(data: &AdapterData) -> bool {
    let v2 = data.v2.iter().flat_map(|own| own.linears.keys());
    let lora = data.lora.iter().flat_map(|own| own.pairs.keys());
    let mut norms = data.v2.iter().flat_map(|own| own.norms.keys());
    v2.chain(lora).any(|(_layer, name)| *name == LinearName::Head)
        || norms.any(|(_layer, name)| *name == NormName::Final)
}

/// Elsewhere prompts go through what Adapter V2 and LoRA make of the base's projections.
fn usual_projection(data: &mut AdapterData, losses: &mut Vec<String>) {
    let Some(prompts) = data.prompts.as_mut() else { return };
    let is_own = |name: &LinearName| matches!(name, LinearName::Key | LinearName::Value);
    let v2 = data.v2.iter().flat_map(|own| own.linears.keys());
    let lora = data.lora.iter().flat_map(|own| own.pairs.keys());
    let changed = v2.chain(lora).any(|(_layer, name)| is_own(name));
    if prompts.projection == PromptProjection::Frozen && changed {
        losses.push("that prompts go through the base's own projections".into());
    }
    prompts.projection = PromptProjection::Adapted;
}

fn drop_v2(data: &mut AdapterData, losses: &mut Vec<String>) {
    if let Some(v2) = data.v2.take() {
        let (linears, norms) = (v2.linears.len(), v2.norms.len());
        losses.push(format!("Adapter V2's {linears} scales and biases and {norms} norms"));
    }
}

fn drop_lora(data: &mut AdapterData, losses: &mut Vec<String>) {
    if let Some(lora) = data.lora.take() {
        losses.push(format!("LoRA of rank {} on {} linear layers", lora.rank, lora.pairs.len()));
    }
}

/// Gates that multiply as they are: activation and factor are carried out.
fn plain_gates(prompts: &mut PromptData) {
    let gates = prompts.layers.values().map(|own| prompts.effective_gates(own));
    let gates = gates.collect::<Vec<_>>();
    for (own, gate) in prompts.layers.values_mut().zip(gates) {
        (own.gate, own.factor) = (gate, None);
    }
    prompts.activation = GateActivation::Identity;
}

/// Takes out the lowest prompts whose gates are closed, which add nothing.
fn drop_closed(prompts: &mut PromptData, losses: &mut Vec<String>) {
    let closed = prompts.layers.iter().take_while(|(_, own)| own.gate.iter().all(|&x| x == 0.0));
    let closed = closed.map(|(layer, _)| *layer).collect::<Vec<_>>();
    prompts.layers.retain(|layer, _| !closed.contains(layer));
    let layers = closed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    losses.push(format!(
        "prompts of layers {layers}: their gates are 0, so that the file would not tell that they \
         are there"
    ));
}

/// Gates whose tanh multiplies.
fn tanh_gates(prompts: &mut PromptData, losses: &mut Vec<String>) {
    let as_it_is = prompts.activation == GateActivation::Tanh
        && prompts.layers.values().all(|own| own.factor.is_none());
    if as_it_is {
        return;
    }
    plain_gates(prompts);
    prompts.activation = GateActivation::Tanh;
    for (layer, own) in &mut prompts.layers {
        let most = own.gate.iter().copied().fold(0.0, |most: f32, gate| most.max(gate.abs()));
        if most >= 1.0 {
            losses.push(format!(
                "gates of layer {layer}, of up to {most}: tanh stays between -1 and 1"
            ));
        }
        for gate in &mut own.gate {
            let plain = f64::from(*gate);
            let plain = if plain.abs() < 1.0 { plain } else { plain.signum() * NEARLY_ONE };
            *gate = plain.atanh() as f32;
        }
    }
}

/// One gate a layer: exact where the heads agree.
fn one_gate(prompts: &mut PromptData, losses: &mut Vec<String>) {
    prompts.gate = Gate::Scalar;
    for (layer, own) in &mut prompts.layers {
        let (least, most) = own
            .gate
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |found, &x| (found.0.min(x), found.1.max(x)));
        if least < most {
            losses.push(format!(
                "gates of layer {layer} differ by head, {least} to {most}: their mean is kept"
            ));
        }
        let mean =
            if least < most { own.gate.iter().sum::<f32>() / own.gate.len() as f32 } else { least };
        own.gate = vec![mean];
    }
}

fn gates_per_head(prompts: &mut PromptData, sizes: &ModelShape) -> Result<()> {
    if prompts.gate == Gate::Scalar {
        let present = prompts.layers.values().map(|own| own.prompt.len()).sum();
        worth_it(present, prompts.layers.len().checked_mul(sizes.n_heads))?;
        for own in prompts.layers.values_mut() {
            own.gate = vec![own.gate[0]; sizes.n_heads];
        }
        prompts.gate = Gate::PerHead;
    }
    Ok(())
}

/// Puts prompts with closed gates, which add nothing, into layers that the format wants them in:
/// from the first adapted one to the highest, or to the model's last.
fn close_gaps(prompts: &mut PromptData, n_layers: Option<usize>) -> Result<()> {
    let Some((&first, own)) = prompts.layers.first_key_value() else { return Ok(()) };
    let highest = prompts.layers.keys().next_back().copied().unwrap_or(first);
    let end = n_layers.unwrap_or(highest.saturating_add(1));
    let count = end.saturating_sub(first);
    if count > MOST_LAYERS {
        let expected = "at most 4096, those between adapted ones counted in";
        return Err(Error::Config { field: "layers", found: count.to_string(), expected });
    }
    let each = own.prompt.len() + own.gate.len();
    worth_it(prompts.layers.len() * each, count.checked_mul(each))?;
    let closed = PromptLayerData {
        prompt: vec![0.0; own.prompt.len()],
        gate: vec![0.0; own.gate.len()],
        factor: None,
    };
    for layer in first..end {
        prompts.layers.entry(layer).or_insert_with(|| closed.clone());
    }
    Ok(())
}

/// Layers of the largest model.
const MOST_LAYERS: usize = 1 << 12;

/// Refuses to fill up what a format cannot leave out, where a file's sizes must be wrong: `filled`
/// numbers for those that are `present`.
fn worth_it(present: usize, filled: Option<usize>) -> Result<()> {
    /// No model is so large that a few numbers become more.
    const ANYWAY: usize = 1 << 24;
    const TIMES: usize = 256;
    let most = present.saturating_mul(TIMES).max(ANYWAY);
    if filled.is_some_and(|filled| filled <= most) {
        return Ok(());
    }
    let found = filled.map_or("too many".into(), |filled| filled.to_string());
    let expected = "few beside those that were learned: the sizes of its base are wrong";
    Err(Error::Config { field: "numbers that the format asks for", found, expected })
}

/// Numbers of a file that has every scale and bias of Adapter V2, in every layer.
fn check_v2(v2: &V2Data, sizes: &ModelShape) -> Result<()> {
    let len = |own: &Option<Vec<f32>>| own.as_ref().map_or(0, Vec::len);
    let linears = v2.linears.values().map(|own| len(&own.scale) + len(&own.bias));
    let norms = v2.norms.values().map(|own| own.weight.len());
    let present = linears.chain(norms).sum();
    let rows = LinearName::ALL_IN_LAYER.iter().copied().map(|name| sizes.linear_shape(name)[0]);
    let of_layer = rows.fold(0_usize, usize::saturating_add);
    worth_it(present, of_layer.checked_mul(2).and_then(|own| own.checked_mul(sizes.n_layers)))
}
