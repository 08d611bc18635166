//! Adapter V2: a scale and a bias on linear layers, and norms that learn.
//!
//! ```text
//! paper, lit        s · (W x + b)         scale on the output
//! original 65B      W (s ⊙ x) + b         scale on the input
//! original 7B       W x + b               bias alone
//! ```
//!
//! s starts at 1, b at 0, the norms at the base's own: a fresh one changes nothing.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use llama::config::ModelShape;
use llama::model::{Norm, NormName, NormWeights};
use llama::{LinearName, Llama, read_back};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which numbers Adapter V2 adds. The default is the paper's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2Config {
    /// Where the scale is.
    pub scale: V2Scale,
    /// Whether there is a bias.
    pub bias: bool,
    /// Linear layers that have them, in every layer of the model.
    pub linears: Vec<LinearName>,
    /// Whether every norm learns.
    pub norms: bool,
}

/// Where a linear layer is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum V2Scale {
    /// Nowhere.
    None,
    /// `s · (W x + b)`, a scale for each output.
    Output,
    /// `W (s ⊙ x) + b`, a scale for each input.
    Input,
}

impl Default for V2Config {
    fn default() -> Self {
        Self::paper()
    }
}

impl V2Config {
    /// Scale on the output and bias on every linear layer of every decoder layer; norms.
    ///
    /// Source: arXiv 2304.15010, equation 4.
    pub fn paper() -> Self {
        let linears = LinearName::ALL_IN_LAYER.to_vec();
        Self { scale: V2Scale::Output, bias: true, linears, norms: true }
    }

    /// The paper's, on the output head too, as lit-llama and litgpt have it.
    pub fn lit() -> Self {
        let mut config = Self::paper();
        config.linears.push(LinearName::Head);
        config
    }

    /// Scale on the input and bias, as in the original release's 65B chat model.
    pub fn input_scale() -> Self {
        Self { scale: V2Scale::Input, ..Self::paper() }
    }

    /// Biases alone on the query, the output and the feed-forward's projections, as in the
    /// original release's multi-modal 7B model.
    pub fn bias_only() -> Self {
        use LinearName::{Down, Gate, Output, Query, Up};
        let linears = vec![Query, Output, Gate, Up, Down];
        Self { scale: V2Scale::None, bias: true, linears, norms: true }
    }

    /// Checks that there is something to learn.
    ///
    /// # Errors
    /// [`Error::Config`]
    pub fn validate(&self) -> Result<()> {
        let on_linears = !self.linears.is_empty() && (self.bias || self.scale != V2Scale::None);
        if !on_linears && !self.norms {
            let found = "no scale, no bias and no norms".into();
            return Err(Error::Config { field: "v2", found, expected: "something to learn" });
        }
        Ok(())
    }

    /// A fresh one.
    pub(crate) fn init(&self, llama: &Llama, device: &Device) -> Result<AdapterV2> {
        let sizes = ModelShape::from(llama.config());
        let filled = |value: f32, len: usize| {
            Param::from_data(TensorData::new(vec![value; len], [len]), device)
        };
        let linears = |layer: usize| {
            let here = self.linears.iter().filter(|name| sizes.has_linear(layer, **name));
            let linears = here.filter_map(|&name| {
                let [d_out, d_in] = sizes.linear_shape(name);
                let scale = match self.scale {
                    V2Scale::None => None,
                    V2Scale::Output => Some(filled(1.0, d_out)),
                    V2Scale::Input => Some(filled(1.0, d_in)),
                };
                let bias = self.bias.then(|| filled(0.0, d_out));
                (scale.is_some() || bias.is_some()).then_some(V2Linear { name, scale, bias })
            });
            linears.collect::<Vec<_>>()
        };
        let norms = |layer: usize| {
            // Over the host: the base's device may be another one than the adapter's.
            let copy = |own: &Param<Tensor<1>>| {
                read_back(own.val()).map(|data| Param::from_data(data, device))
            };
            let learned = |(name, norm): (NormName, &Norm)| {
                let bias = norm.bias.as_ref().map(copy).transpose()?;
                Ok(V2Norm { name, weight: copy(&norm.weight)?, bias })
            };
            let norms = if self.norms { llama.norms(layer) } else { Vec::new() };
            norms.into_iter().map(learned).collect::<Result<Vec<_>>>()
        };
        let layers = (0..=sizes.n_layers)
            .map(|layer| Ok(V2Layer { linears: linears(layer), norms: norms(layer)? }))
            .collect::<Result<_>>()?;
        Ok(AdapterV2 { layers, config: self.clone() })
    }
}

/// What Adapter V2 learns.
#[derive(Module, Debug)]
pub struct AdapterV2 {
    /// One for each layer of the model, and a last one for the head and the final norm.
    pub layers: Vec<V2Layer>,
    #[module(skip)]
    pub(crate) config: V2Config,
}

/// Its part in one layer.
#[derive(Module, Debug)]
pub struct V2Layer {
    /// Linear layers that have one.
    pub linears: Vec<V2Linear>,
    /// Norms that learn.
    pub norms: Vec<V2Norm>,
}

/// Scale and bias of a linear layer.
#[derive(Module, Debug)]
pub struct V2Linear {
    /// Which linear layer.
    #[module(skip)]
    pub name: LinearName,
    /// `[out]` or `[in]`
    pub scale: Option<Param<Tensor<1>>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// Weights that stand for a norm's own.
#[derive(Module, Debug)]
pub struct V2Norm {
    /// Which norm.
    #[module(skip)]
    pub name: NormName,
    /// `[d_model]`
    pub weight: Param<Tensor<1>>,
    /// `[d_model]`, for norms that have one.
    pub bias: Option<Param<Tensor<1>>>,
}

impl AdapterV2 {
    /// Where its numbers are.
    pub fn config(&self) -> &V2Config {
        &self.config
    }

    pub(crate) fn linear(&self, layer: usize, name: LinearName) -> Option<&V2Linear> {
        self.layers.get(layer)?.linears.iter().find(|linear| linear.name == name)
    }

    pub(crate) fn norm(&self, layer: usize, name: NormName) -> Option<NormWeights> {
        let norm = self.layers.get(layer)?.norms.iter().find(|norm| norm.name == name)?;
        Some(NormWeights {
            weight: norm.weight.val().unsqueeze(),
            bias: norm.bias.as_ref().map(|bias| bias.val().unsqueeze()),
        })
    }

    /// What a linear layer gives with its scale and bias, around `product`.
    pub(crate) fn around(
        &self,
        own: &V2Linear,
        input: Tensor<3>,
        product: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let scale = own.scale.as_ref().map(|scale| scale.val().unsqueeze::<3>());
        let biased = |output: Tensor<3>| match &own.bias {
            Some(bias) => output + bias.val().unsqueeze(),
            None => output,
        };
        match (self.config.scale, scale) {
            (V2Scale::Output, Some(scale)) => biased(product(input)) * scale,
            (V2Scale::Input, Some(scale)) => biased(product(input * scale)),
            _ => biased(product(input)),
        }
    }
}
