//! LoRA: a product of two narrow matrices beside a linear layer, as a baseline to compare with.
//!
//! Burn's own LoRA rewrites the parameters of a model. Here the base is never touched, and several
//! adapters share it; so this one joins through the seam as every adapter does.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use llama::config::ModelShape;
use llama::{LinearName, LlamaConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layers::AdaptedLayers;

/// Which linear layers get a low-rank product, and how wide. The default is PEFT's for Llama:
/// rank 8, alpha 8, query and value, with every layer adapted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Inner width of the product.
    pub rank: usize,
    /// The product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Linear layers that have one.
    pub linears: Vec<LinearName>,
    /// Adapted layers; `None`: all of them.
    pub layers: Option<AdaptedLayers>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let linears = vec![LinearName::Query, LinearName::Value];
        Self { rank: 8, alpha: 8.0, linears, layers: None }
    }
}

impl LoraConfig {
    /// Checks the numbers against a model of `n_layers` layers.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, n_layers: usize) -> Result<()> {
        let wrong = |field, found, expected| Err(Error::Config { field, found, expected });
        if !(1..=1 << 16).contains(&self.rank) {
            return wrong("rank", self.rank.to_string(), "1 to 65536");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return wrong("alpha", self.alpha.to_string(), "above 0");
        }
        if self.linears.is_empty() || self.linears.contains(&LinearName::Head) {
            let found = format!("{:?}", self.linears);
            return wrong("linears", found, "linear layers of a decoder layer, at least one");
        }
        self.indices(n_layers).map(|_| ())
    }

    pub(crate) fn indices(&self, n_layers: usize) -> Result<Vec<usize>> {
        match &self.layers {
            Some(layers) => layers.indices(n_layers),
            None => Ok((0..n_layers).collect()),
        }
    }

    /// A fresh one: A uniform as PyTorch's linear layers start, B zero, so that it changes nothing.
    pub(crate) fn init(&self, model: &LlamaConfig, seed: u64, device: &Device) -> Result<Lora> {
        let sizes = ModelShape::from(model);
        let indices = self.indices(sizes.n_layers)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Another stream than the prompts draw from.
        rng.set_stream(1);
        let layers = (0..sizes.n_layers).map(|layer| {
            let here = indices.contains(&layer);
            let names = self.linears.iter().filter(|name| here && sizes.has_linear(layer, **name));
            let pairs = names.map(|&name| {
                let [d_out, d_in] = sizes.linear_shape(name);
                let bound = 1.0 / (d_in as f32).sqrt();
                let a = (0..self.rank * d_in).map(|_| rng.random_range(-bound..bound)).collect();
                LoraPair::from_values(name, a, vec![0.0; d_out * self.rank], self.rank, device)
            });
            LoraLayer { pairs: pairs.collect() }
        });
        Ok(Lora { layers: layers.collect(), config: self.clone() })
    }
}

/// What LoRA learns.
#[derive(Module, Debug)]
pub struct Lora {
    /// One for each layer of the model, and perhaps a last one for the head.
    pub layers: Vec<LoraLayer>,
    #[module(skip)]
    pub(crate) config: LoraConfig,
}

/// Its part in one layer.
#[derive(Module, Debug)]
pub struct LoraLayer {
    /// Linear layers that have one.
    pub pairs: Vec<LoraPair>,
}

/// The two matrices of a linear layer.
#[derive(Module, Debug)]
pub struct LoraPair {
    /// Which linear layer.
    #[module(skip)]
    pub name: LinearName,
    /// `[rank, in]`
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`
    pub b: Param<Tensor<2>>,
}

impl LoraPair {
    pub(crate) fn from_values(
        name: LinearName,
        a: Vec<f32>,
        b: Vec<f32>,
        rank: usize,
        device: &Device,
    ) -> Self {
        let (d_in, d_out) = (a.len() / rank, b.len() / rank);
        Self {
            name,
            a: Param::from_data(TensorData::new(a, [rank, d_in]), device),
            b: Param::from_data(TensorData::new(b, [d_out, rank]), device),
        }
    }
}

impl Lora {
    /// Rank, factor and places.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    pub(crate) fn pair(&self, layer: usize, name: LinearName) -> Option<&LoraPair> {
        self.layers.get(layer)?.pairs.iter().find(|pair| pair.name == name)
    }

    /// What is added to a linear layer's output, `alpha / rank · B A x`, with the config's rank also
    /// where this layer's own is another.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`
    ///
    /// Source: arXiv 2106.09685.
    pub(crate) fn delta(&self, pair: &LoraPair, input: Tensor<3>) -> Tensor<3> {
        let [batch, seq, d_in] = input.dims();
        let rows = input.reshape([batch * seq, d_in]);
        let output = rows.matmul(pair.a.val().transpose()).matmul(pair.b.val().transpose());
        let [_rows, d_out] = output.dims();
        output.reshape([batch, seq, d_out]) * (self.config.alpha / self.config.rank as f64)
    }
}
