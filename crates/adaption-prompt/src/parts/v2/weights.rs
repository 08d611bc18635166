//! Adapter V2 on linear layers:
//!
//! ```text
//! paper, lit        s · (W x + b)         output scale
//! original 65B      W (s ⊙ x) + b         input scale
//! original 7B       W x + b               bias only
//! ```
//!
//! s starts at 1, b at 0, the norm weights at the base's, so a fresh adapter equals the base model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::config::ModelShape;
use llama::model::{Norm, NormName, NormWeights};
use llama::{LinearName, Llama, read_back};

use super::config::{V2Config, V2Scale};
use super::data::{
    LINEAR_SUFFIXES, NORM_SUFFIXES, V2Data, V2LinearData, V2NormData, V2Settings, v2_from_tensors,
};
use super::summary::V2Summary;
use crate::error::Result;
use crate::param;
use crate::part::{AssembleContext, Part, PartTensors, PartWeights};
use crate::tensors::names::{ModuleName, TensorAddress};

/// Trainable scales, biases and norm weights.
#[derive(Module, Debug)]
pub struct AdapterV2 {
    /// One for each layer of the model, and one for the head and the final norm.
    pub layers: Vec<V2Layer>,
    #[module(skip)]
    config: V2Config,
}

/// Adapter V2 of one layer.
#[derive(Module, Debug)]
pub struct V2Layer {
    /// Linear layers with a scale or a bias.
    pub linears: Vec<V2Linear>,
    /// Norms with trained weights.
    pub norms: Vec<V2Norm>,
}

/// Scale and bias of a linear layer.
#[derive(Module, Debug)]
pub struct V2Linear {
    /// The linear layer.
    #[module(skip)]
    pub name: LinearName,
    /// `[out]` or `[in]`
    pub scale: Option<Param<Tensor<1>>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// Weights that replace those of a norm.
#[derive(Module, Debug)]
pub struct V2Norm {
    /// The norm.
    #[module(skip)]
    pub name: NormName,
    /// `[d_model]`
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, for norms with a bias.
    pub bias: Option<Param<Tensor<1>>>,
}

impl V2Config {
    /// Fresh scales, biases and norm weights for a model. They do not depend on `seed`.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); [`llama::Error::Device`].
    pub fn init(&self, llama: &Llama, seed: u64, device: &Device) -> Result<AdapterV2> {
        let _ = seed;
        self.validate()?;
        let shape = ModelShape::from(llama.config());
        let constant = |value: f32, len: usize| param::from_values(vec![value; len], [len], device);
        let linears = |layer: usize| {
            let present = self.linears.iter().filter(|name| shape.has_linear(layer, **name));
            let linears = present.filter_map(|&name| {
                let [d_out, d_in] = shape.linear_shape(name);
                let scale = match self.scale {
                    V2Scale::None => None,
                    V2Scale::Output => Some(constant(1.0, d_out)),
                    V2Scale::Input => Some(constant(1.0, d_in)),
                };
                let bias = self.bias.then(|| constant(0.0, d_out));
                (scale.is_some() || bias.is_some()).then_some(V2Linear { name, scale, bias })
            });
            linears.collect::<Vec<_>>()
        };
        let norms = |layer: usize| {
            // Through host memory: the base may be on another device than the adapter.
            let copy = |own: &Param<Tensor<1>>| {
                read_back(own.val()).map(|data| Param::from_data(data, device))
            };
            let copy_norm = |(name, norm): (NormName, &Norm)| {
                let bias = norm.bias.as_ref().map(copy).transpose()?;
                Ok(V2Norm { name, weight: copy(&norm.weight)?, bias })
            };
            let norms = if self.norms { llama.norms(layer) } else { Vec::new() };
            norms.into_iter().map(copy_norm).collect::<Result<Vec<_>>>()
        };
        let layers = (0..=shape.n_layers)
            .map(|layer| Ok(V2Layer { linears: linears(layer), norms: norms(layer)? }))
            .collect::<Result<_>>()?;
        Ok(AdapterV2 { layers, config: self.clone() })
    }
}

impl AdapterV2 {
    /// What is trained.
    pub fn config(&self) -> &V2Config {
        &self.config
    }

    fn linear(&self, layer: usize, name: LinearName) -> Option<&V2Linear> {
        self.layers.get(layer)?.linears.iter().find(|linear| linear.name == name)
    }

    /// The scale of a linear layer if the adapter's scales are of this kind, `[1, 1, out or in]`.
    fn scale(&self, kind: V2Scale, layer: usize, name: LinearName) -> Option<Tensor<3>> {
        let scale = self.linear(layer, name)?.scale.as_ref()?;
        (self.config.scale == kind).then(|| scale.val().unsqueeze())
    }
}

impl PartWeights for AdapterV2 {
    fn first_layer(&self) -> Option<usize> {
        self.layers.iter().position(|own| !own.linears.is_empty() || !own.norms.is_empty())
    }

    fn modifies_layers(&self) -> bool {
        true
    }

    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.linear(layer, name).is_some()
    }

    fn modifies_input(&self, layer: usize, name: LinearName) -> bool {
        self.scale(V2Scale::Input, layer, name).is_some()
    }

    fn linear_input(&self, layer: usize, name: LinearName, input: Tensor<3>) -> Tensor<3> {
        match self.scale(V2Scale::Input, layer, name) {
            Some(scale) => input * scale,
            None => input,
        }
    }

    fn linear_output(
        &self,
        layer: usize,
        name: LinearName,
        _input: Tensor<3>,
        output: Tensor<3>,
    ) -> Tensor<3> {
        let bias = self.linear(layer, name).and_then(|own| own.bias.as_ref());
        let output = match bias {
            Some(bias) => output + bias.val().unsqueeze(),
            None => output,
        };
        match self.scale(V2Scale::Output, layer, name) {
            Some(scale) => output * scale,
            None => output,
        }
    }

    fn norm(&self, layer: usize, name: NormName) -> Option<NormWeights> {
        let norm = self.layers.get(layer)?.norms.iter().find(|norm| norm.name == name)?;
        Some(NormWeights {
            weight: norm.weight.val().unsqueeze(),
            bias: norm.bias.as_ref().map(|bias| bias.val().unsqueeze()),
        })
    }
}

impl Part for AdapterV2 {
    type Config = V2Config;
    type Data = V2Data;
    type Summary = V2Summary;
    type Settings = V2Settings;

    fn init(config: &V2Config, llama: &Llama, seed: u64, device: &Device) -> Result<Self> {
        config.init(llama, seed, device)
    }

    fn config(&self) -> V2Config {
        self.config.clone()
    }

    fn from_data(
        data: &V2Data,
        model: &ModelShape,
        device: &Device,
        _problems: &mut Vec<String>,
    ) -> Self {
        let vector =
            |values: &Option<Vec<f32>>| values.as_ref().map(|values| param::vector(values, device));
        let layers = (0..=model.n_layers).map(|layer| {
            let linears = data.linears.iter().filter(|((at, _), _)| *at == layer);
            let linears = linears.map(|(&(_, name), own)| V2Linear {
                name,
                scale: vector(&own.scale),
                bias: vector(&own.bias),
            });
            let norms = data.norms.iter().filter(|((at, _), _)| *at == layer);
            let norms = norms.map(|(&(_, name), own)| V2Norm {
                name,
                weight: param::vector(&own.weight, device),
                bias: vector(&own.bias),
            });
            V2Layer { linears: linears.collect(), norms: norms.collect() }
        });
        let mut linears = data.linears.keys().map(|(_, name)| *name).collect::<Vec<_>>();
        linears.sort_unstable();
        linears.dedup();
        let config = V2Config {
            scale: data.scale,
            bias: data.linears.values().any(|own| own.bias.is_some()),
            linears,
            norms: !data.norms.is_empty(),
        };
        Self { layers: layers.collect(), config }
    }

    fn to_data(&self) -> Result<V2Data> {
        let mut data = V2Data::new(self.config.scale);
        for (layer, own) in self.layers.iter().enumerate() {
            for linear in &own.linears {
                let scale = linear.scale.as_ref().map(param::values).transpose()?;
                let bias = linear.bias.as_ref().map(param::values).transpose()?;
                data.linears.insert((layer, linear.name), V2LinearData { scale, bias });
            }
            for norm in &own.norms {
                let bias = norm.bias.as_ref().map(param::values).transpose()?;
                let weight = param::values(&norm.weight)?;
                data.norms.insert((layer, norm.name), V2NormData { weight, bias });
            }
        }
        Ok(data)
    }

    fn summary(data: &V2Data) -> V2Summary {
        V2Summary::from_data(data)
    }

    fn settings(data: &V2Data) -> V2Settings {
        V2Settings { scale: data.scale }
    }

    fn claims(_name: &str, address: Option<&TensorAddress>) -> bool {
        address.is_some_and(|address| match address.module {
            ModuleName::Attention => false,
            ModuleName::Linear(_) => LINEAR_SUFFIXES.contains(&address.suffix),
            ModuleName::Norm(_) => NORM_SUFFIXES.contains(&address.suffix),
        })
    }

    fn from_tensors(
        settings: V2Settings,
        tensors: PartTensors,
        _context: &AssembleContext,
        problems: &mut Vec<String>,
    ) -> V2Data {
        v2_from_tensors(settings, tensors, problems)
    }
}
