//! Plain numbers ⇄ an adapter on a device, checked against the model.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use llama::config::ModelShape;
use llama::model::NormName;
use llama::{LinearName, read_back};

use crate::adapter::{AdaptionPrompt, LayerPrompt};
use crate::config::{AdaptionPromptConfig, Gate, PromptInit};
use crate::data::{
    AdapterData, BaseInfo, ImageData, LoraData, LoraPairData, PromptData, PromptLayerData, V2Data,
    V2LinearData, V2NormData,
};
use crate::error::{Error, Result};
use crate::files::keys::{Part, key};
use crate::image::ImageCondition;
use crate::layers::AdaptedLayers;
use crate::lora::{Lora, LoraConfig, LoraLayer, LoraPair};
use crate::v2::{AdapterV2, V2Config, V2Layer, V2Linear, V2Norm, V2Scale};
use crate::weights::AdapterWeights;

fn vector(values: &[f32], device: &Device) -> Param<Tensor<1>> {
    Param::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn numbers<const D: usize>(param: &Param<Tensor<D>>) -> Result<Vec<f32>> {
    Ok(read_back(param.val())?.convert_dtype(DType::F32).iter::<f32>().collect())
}

impl AdapterWeights {
    /// Puts plain numbers on a device, for a model of the given sizes. `path` is where they came
    /// from, for messages.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`], [`Error::NoSuchLayer`] or [`Error::Tensors`] with everything that
    /// does not fit.
    pub fn from_data(
        data: &AdapterData,
        model: &ModelShape,
        path: &Path,
        device: &Device,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        if let Some(prompts) = &data.prompts {
            let indices = prompts.layers.keys().copied().collect::<Vec<_>>();
            if indices.len() > model.n_layers {
                let (asked, present) = (indices.len(), model.n_layers);
                return Err(Error::TooManyLayers { requested: asked, available: present });
            }
            AdaptedLayers::of(&indices, model.n_layers).indices(model.n_layers)?;
            if data.base.sizes.is_none() {
                problems.extend(check_last_layers(prompts, model.n_layers));
            }
            let (theirs, ours) = (data.base.architecture, model.architecture);
            if theirs.is_some_and(|own| own.attention_module(0) != ours.attention_module(0)) {
                let first = prompts.layers.keys().next().copied().unwrap_or(0);
                let key = |family| key(family, first, Part::Prompt);
                let (theirs, ours) = (key(theirs), key(Some(ours)));
                problems.push(format!("unexpected: {theirs}; in this model it would be {ours}"));
            }
        }
        problems.extend(data.check_shapes(model));
        if !problems.is_empty() {
            return Err(Error::TensorMismatch { path: path.into(), problems });
        }
        let image = data.image.as_ref().map(|own| {
            let ModelShape { d_model, n_heads, .. } = *model;
            ImageCondition::from_data(own, d_model, n_heads, device, &mut problems)
        });
        if !problems.is_empty() {
            return Err(Error::TensorMismatch { path: path.into(), problems });
        }
        Ok(Self {
            image,
            prompts: data.prompts.as_ref().map(|own| prompts_from(own, model, device)),
            v2: data.v2.as_ref().map(|own| v2_from(own, model, device)),
            lora: data.lora.as_ref().map(|own| lora_from(own, model, device)),
        })
    }

    /// The numbers, beside what is known of the base.
    ///
    /// # Errors
    /// [`llama::Error::Device`]
    pub fn to_data(&self, base: BaseInfo) -> Result<AdapterData> {
        Ok(AdapterData {
            base,
            prompts: self.prompts.as_ref().map(prompts_to).transpose()?,
            v2: self.v2.as_ref().map(v2_to).transpose()?,
            lora: self.lora.as_ref().map(lora_to).transpose()?,
            image: self.image.as_ref().map(ImageCondition::to_data).transpose()?,
        })
    }
}

impl AdapterData {
    /// What of it a model of the given sizes has no place for; nothing, where it fits.
    pub fn check_shapes(&self, model: &ModelShape) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(prompts) = &self.prompts {
            check_prompts(prompts, model, &mut problems);
        }
        if let Some(v2) = &self.v2 {
            check_v2(v2, model, &mut problems);
        }
        if let Some(lora) = &self.lora {
            check_lora(lora, model, &mut problems);
        }
        if let Some(image) = &self.image {
            let prompts = self.prompts.as_ref().map(|own| prompts_config(own, model.n_layers));
            let checked = image.config.validate(prompts.as_ref(), model.n_layers);
            match checked {
                Err(error) => problems.push(error.to_string()),
                Ok(()) => problems.extend(unfilled(image, model.d_model)),
            }
        }
        problems
    }
}

/// Memory for all of a condition's numbers is taken before each tensor is looked at: sizes that its
/// numbers cannot fill are refused before that.
fn unfilled(image: &ImageData, d_model: usize) -> Option<String> {
    let present = image.tensors.values().map(|(_shape, values)| values.len()).sum::<usize>();
    let wanted = image.config.n_matrix_parameters(d_model);
    (wanted > 2 * present).then(|| {
        format!("what sees images: expected matrices of {wanted} numbers, found {present} in all")
    })
}

/// Other programs' adapters are in a model's last layers, and their files do not name the model:
/// prompts in other layers were made for another one.
pub(crate) fn check_last_layers(prompts: &PromptData, n_layers: usize) -> Option<String> {
    let indices = prompts.layers.keys().copied().collect::<Vec<_>>();
    match AdaptedLayers::of(&indices, n_layers) {
        AdaptedLayers::Last(_) => None,
        AdaptedLayers::Chosen(_) => Some(format!(
            "expected prompts in the last {} of {n_layers} layers, found them in {indices:?}",
            indices.len()
        )),
    }
}

fn check_prompts(prompts: &PromptData, model: &ModelShape, problems: &mut Vec<String>) {
    for layer in prompts.layers.keys().filter(|layer| **layer >= model.n_layers) {
        let n_layers = model.n_layers;
        problems.push(format!("prompt of layer {layer}: the model has {n_layers} layers, from 0"));
    }
    if prompts.d_model != model.d_model {
        let PromptData { adapter_len, d_model, .. } = prompts;
        for layer in prompts.layers.keys() {
            problems.push(format!(
                "prompt of layer {layer}: expected [1, {adapter_len}, {}], found [1, {adapter_len}, \
                 {d_model}]",
                model.d_model
            ));
        }
    }
    let gates = if prompts.gate == Gate::PerHead { model.n_heads } else { 1 };
    for (layer, own) in &prompts.layers {
        if own.gate.len() != gates {
            problems.push(format!(
                "gates of layer {layer}: expected {gates}, found {}",
                own.gate.len()
            ));
        }
    }
}

fn check_v2(v2: &V2Data, model: &ModelShape, problems: &mut Vec<String>) {
    for ((layer, name), own) in &v2.linears {
        if !model.has_linear(*layer, *name) {
            problems.push(format!("the model has no {name:?} in layer {layer}"));
            continue;
        }
        let [d_out, d_in] = model.linear_shape(*name);
        let scaled = if v2.scale == V2Scale::Input { d_in } else { d_out };
        let scaled = (v2.scale != V2Scale::None).then_some(scaled);
        let scale = own.scale.as_ref().map(Vec::len);
        let bias = own.bias.as_ref().map(Vec::len);
        for (what, found, expected) in
            [("scale", scale, scaled), ("bias", bias, bias.map(|_| d_out))]
        {
            if found != expected {
                let shape =
                    |len: Option<usize>| len.map_or("none".into(), |len| format!("[{len}]"));
                let (expected, found) = (shape(expected), shape(found));
                problems.push(format!(
                    "{what} of {name:?} in layer {layer}: expected {expected}, found {found}"
                ));
            }
        }
    }
    for ((layer, name), own) in &v2.norms {
        let last = *layer == model.n_layers;
        if *layer > model.n_layers || last != (*name == NormName::Final) {
            problems.push(format!("the model has no norm {name:?} in layer {layer}"));
            continue;
        }
        let lengths = [Some(own.weight.len()), own.bias.as_ref().map(Vec::len)];
        for found in lengths.into_iter().flatten().filter(|found| *found != model.d_model) {
            problems.push(format!(
                "norm {name:?} in layer {layer}: expected [{}], found [{found}]",
                model.d_model
            ));
        }
    }
}

fn check_lora(lora: &LoraData, model: &ModelShape, problems: &mut Vec<String>) {
    for ((layer, name), LoraPairData { rank, a, b }) in &lora.pairs {
        if !model.has_linear(*layer, *name) {
            problems.push(format!("the model has no {name:?} in layer {layer}"));
            continue;
        }
        let [d_out, d_in] = model.linear_shape(*name);
        for (what, found, expected) in [("A", a.len(), rank * d_in), ("B", b.len(), rank * d_out)] {
            if found != expected {
                problems.push(format!(
                    "LoRA's {what} of {name:?} in layer {layer}: expected {expected} numbers, \
                     found {found}"
                ));
            }
        }
    }
}

fn prompts_config(prompts: &PromptData, n_layers: usize) -> AdaptionPromptConfig {
    let indices = prompts.layers.keys().copied().collect::<Vec<_>>();
    AdaptionPromptConfig {
        adapter_len: prompts.adapter_len,
        layers: AdaptedLayers::of(&indices, n_layers),
        gate: prompts.gate,
        activation: prompts.activation,
        factor: prompts.layers.values().any(|own| own.factor.is_some()),
        projection: prompts.projection,
        init: PromptInit::default(),
    }
}

fn prompts_from(prompts: &PromptData, model: &ModelShape, device: &Device) -> AdaptionPrompt {
    let indices = prompts.layers.keys().copied().collect();
    let config = prompts_config(prompts, model.n_layers);
    let layers = prompts.layers.values().map(|own| {
        let (prompt, gate) = (own.prompt.clone(), own.gate.clone());
        LayerPrompt::from_values(prompt, gate, own.factor, prompts.adapter_len, device)
    });
    AdaptionPrompt::new(config, indices, layers.collect())
}

fn prompts_to(prompts: &AdaptionPrompt) -> Result<PromptData> {
    let config = prompts.config();
    let mut d_model = 0;
    let layers = prompts.indices().iter().zip(&prompts.layers).map(|(&index, own)| {
        [_, d_model] = own.prompt.val().dims();
        let factor = own.factor.as_ref().map(numbers).transpose()?;
        let factor = factor.and_then(|factor| factor.first().copied());
        let (prompt, gate) = (numbers(&own.prompt)?, numbers(&own.gate)?);
        Ok((index, PromptLayerData { prompt, gate, factor }))
    });
    let layers = layers.collect::<Result<_>>()?;
    Ok(PromptData {
        adapter_len: config.adapter_len,
        d_model,
        gate: config.gate,
        activation: config.activation,
        projection: config.projection,
        layers,
    })
}

fn v2_from(v2: &V2Data, model: &ModelShape, device: &Device) -> AdapterV2 {
    let param = |values: &Option<Vec<f32>>| values.as_ref().map(|values| vector(values, device));
    let layers = (0..=model.n_layers).map(|layer| V2Layer {
        linears: v2
            .linears
            .iter()
            .filter(|((at, _), _)| *at == layer)
            .map(|((_, name), own)| V2Linear {
                name: *name,
                scale: param(&own.scale),
                bias: param(&own.bias),
            })
            .collect(),
        norms: v2
            .norms
            .iter()
            .filter(|((at, _), _)| *at == layer)
            .map(|((_, name), own)| V2Norm {
                name: *name,
                weight: vector(&own.weight, device),
                bias: param(&own.bias),
            })
            .collect(),
    });
    let mut linears = v2.linears.keys().map(|(_, name)| *name).collect::<Vec<_>>();
    linears.sort_unstable();
    linears.dedup();
    let config = V2Config {
        scale: v2.scale,
        bias: v2.linears.values().any(|own| own.bias.is_some()),
        linears,
        norms: !v2.norms.is_empty(),
    };
    AdapterV2 { layers: layers.collect(), config }
}

fn v2_to(v2: &AdapterV2) -> Result<V2Data> {
    let mut data =
        V2Data { scale: v2.config().scale, linears: BTreeMap::new(), norms: BTreeMap::new() };
    for (layer, own) in v2.layers.iter().enumerate() {
        for linear in &own.linears {
            let scale = linear.scale.as_ref().map(numbers).transpose()?;
            let bias = linear.bias.as_ref().map(numbers).transpose()?;
            data.linears.insert((layer, linear.name), V2LinearData { scale, bias });
        }
        for norm in &own.norms {
            let bias = norm.bias.as_ref().map(numbers).transpose()?;
            let weight = numbers(&norm.weight)?;
            data.norms.insert((layer, norm.name), V2NormData { weight, bias });
        }
    }
    Ok(data)
}

fn lora_from(lora: &LoraData, model: &ModelShape, device: &Device) -> Lora {
    // The head is behind the last layer.
    let layers = (0..=model.n_layers).map(|layer| LoraLayer {
        pairs: lora
            .pairs
            .iter()
            .filter(|((at, _), _)| *at == layer)
            .map(|((_, name), own)| {
                LoraPair::from_values(*name, own.a.clone(), own.b.clone(), own.rank, device)
            })
            .collect(),
    });
    let layers = layers.collect::<Vec<_>>();
    let in_layers = lora.pairs.keys().filter(|(_, name)| *name != LinearName::Head);
    let mut indices = in_layers.map(|(layer, _)| *layer).collect::<Vec<_>>();
    indices.dedup();
    let mut linears: Vec<LinearName> = lora.pairs.keys().map(|(_, name)| *name).collect();
    linears.sort_unstable();
    linears.dedup();
    let all = indices.len() == model.n_layers;
    let config = LoraConfig {
        rank: lora.rank,
        alpha: lora.alpha,
        linears,
        layers: (!all).then(|| AdaptedLayers::of(&indices, model.n_layers)),
    };
    Lora { layers, config }
}

fn lora_to(lora: &Lora) -> Result<LoraData> {
    let pairs = lora.layers.iter().enumerate().flat_map(|(layer, own)| {
        own.pairs.iter().map(move |pair| {
            let [rank, _d_in] = pair.a.dims();
            let own = LoraPairData { rank, a: numbers(&pair.a)?, b: numbers(&pair.b)? };
            Ok(((layer, pair.name), own))
        })
    });
    let pairs = pairs.collect::<Result<_>>()?;
    Ok(LoraData { rank: lora.config().rank, alpha: lora.config().alpha, pairs })
}
