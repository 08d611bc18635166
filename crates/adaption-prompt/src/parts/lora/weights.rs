//! LoRA as an adapter of a shared base model.
//!
//! Burn's own LoRA replaces parameters of a model. Here several adapters share a base model that is never
//! modified, so LoRA uses the adapter hooks as the other parts do.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::config::ModelShape;
use llama::model::Weight;
use llama::{LinearName, Llama};
use rand::RngExt;

use super::config::LoraConfig;
use super::data::{LORA_SUFFIXES, LoraData, LoraPairData, LoraSettings, lora_from_tensors};
use super::summary::LoraSummary;
use crate::adapted_layers::AdaptedLayers;
use crate::error::Result;
use crate::param;
use crate::part::{AssembleContext, Part, PartTensors, PartWeights};
use crate::tensors::names::{ModuleName, TensorAddress};

/// Random stream of the initial values.
const RNG_STREAM: u64 = 1;

/// Trainable low-rank matrices.
#[derive(Module, Debug)]
pub struct Lora {
    /// One for each layer of the model, and optionally one for the head.
    pub layers: Vec<LoraLayer>,
    #[module(skip)]
    config: LoraConfig,
}

/// LoRA of one layer.
#[derive(Module, Debug)]
pub struct LoraLayer {
    /// Adapted linear layers.
    pub pairs: Vec<LoraPair>,
}

/// The two matrices of a linear layer.
#[derive(Module, Debug)]
pub struct LoraPair {
    /// The linear layer.
    #[module(skip)]
    pub name: LinearName,
    /// `[rank, in]`
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`
    pub b: Param<Tensor<2>>,
    /// The same matrices, packed for inference.
    #[module(skip)]
    packed: Option<PackedPair>,
}

/// The matrices of a pair in the form of the kernels, which compute each row of a product by itself: the
/// result for a row does not depend on the other rows.
#[derive(Debug, Clone)]
struct PackedPair {
    a: Weight,
    b: Weight,
}

impl LoraConfig {
    /// Fresh matrices for a model, drawn from `seed`: the same on every device. A is uniform as in
    /// PyTorch's linear layers, B is zero, so that a fresh adapter equals the base model.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn init(&self, llama: &Llama, seed: u64, device: &Device) -> Result<Lora> {
        let shape = ModelShape::from(llama.config());
        self.validate(shape.n_layers)?;
        let indices = self.indices(shape.n_layers)?;
        let mut rng = param::seeded_rng(seed, RNG_STREAM);
        let layers = (0..shape.n_layers).map(|layer| {
            let adapted = indices.contains(&layer);
            let names =
                self.linears.iter().filter(|name| adapted && shape.has_linear(layer, **name));
            let pairs = names.map(|&name| {
                let [d_out, d_in] = shape.linear_shape(name);
                let bound = 1.0 / (d_in as f32).sqrt();
                let a = (0..self.rank * d_in).map(|_| rng.random_range(-bound..bound)).collect();
                LoraPair::from_values(name, a, vec![0.0; d_out * self.rank], self.rank, device)
            });
            LoraLayer { pairs: pairs.collect() }
        });
        Ok(Lora { layers: layers.collect(), config: self.clone() })
    }
}

impl LoraPair {
    fn from_values(
        name: LinearName,
        a: Vec<f32>,
        b: Vec<f32>,
        rank: usize,
        device: &Device,
    ) -> Self {
        let (d_in, d_out) = (a.len() / rank, b.len() / rank);
        Self {
            name,
            a: param::from_values(a, [rank, d_in], device),
            b: param::from_values(b, [d_out, rank], device),
            packed: None,
        }
    }

    /// The same pair, packed. Its device is fused, without autodiff.
    fn packed(&self) -> Self {
        let packed = PackedPair { a: pack(&self.a), b: pack(&self.b) };
        Self { packed: Some(packed), ..self.clone() }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "fused devices have tensors in host memory: reading does not wait"
)]
fn pack(matrix: &Param<Tensor<2>>) -> Weight {
    let matrix = matrix.val();
    let device = matrix.device();
    Weight::frozen(matrix.into_data(), &device)
}

impl Lora {
    /// Rank, scaling and target layers.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    fn pair(&self, layer: usize, name: LinearName) -> Option<&LoraPair> {
        self.layers.get(layer)?.pairs.iter().find(|pair| pair.name == name)
    }

    /// `alpha / rank · B A x`, with the config's rank also for pairs of another rank.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`
    ///
    /// Source: arXiv 2106.09685.
    fn delta(&self, pair: &LoraPair, input: Tensor<3>) -> Tensor<3> {
        let [batch, seq, d_in] = input.dims();
        let rows = input.reshape([batch * seq, d_in]);
        let output = match &pair.packed {
            Some(PackedPair { a, b }) => b.matmul_transposed(a.matmul_transposed(rows)),
            None => rows.matmul(pair.a.val().transpose()).matmul(pair.b.val().transpose()),
        };
        let [_rows, d_out] = output.dims();
        output.reshape([batch, seq, d_out]) * (self.config.alpha / self.config.rank as f64)
    }
}

impl PartWeights for Lora {
    fn first_layer(&self) -> Option<usize> {
        self.layers.iter().position(|own| !own.pairs.is_empty())
    }

    fn modifies_layers(&self) -> bool {
        true
    }

    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        self.pair(layer, name).is_some()
    }

    fn linear_output(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        output: Tensor<3>,
    ) -> Tensor<3> {
        match self.pair(layer, name) {
            Some(pair) => output + self.delta(pair, input),
            None => output,
        }
    }

    fn packed(&self) -> Self {
        let pack =
            |own: &LoraLayer| LoraLayer { pairs: own.pairs.iter().map(LoraPair::packed).collect() };
        Self { layers: self.layers.iter().map(pack).collect(), config: self.config.clone() }
    }

    fn packed_bytes(&self) -> usize {
        let pairs = self.layers.iter().flat_map(|own| &own.pairs);
        let packed = pairs.filter_map(|pair| pair.packed.as_ref());
        packed.map(|PackedPair { a, b }| a.bytes() + b.bytes()).sum()
    }
}

impl Part for Lora {
    type Config = LoraConfig;
    type Data = LoraData;
    type Summary = LoraSummary;
    type Settings = LoraSettings;

    fn init(config: &LoraConfig, llama: &Llama, seed: u64, device: &Device) -> Result<Self> {
        config.init(llama, seed, device)
    }

    fn config(&self) -> LoraConfig {
        self.config.clone()
    }

    fn from_data(
        data: &LoraData,
        model: &ModelShape,
        device: &Device,
        _problems: &mut Vec<String>,
    ) -> Self {
        // The head comes after the last layer.
        let layers = (0..=model.n_layers).map(|layer| {
            let pairs = data.pairs.iter().filter(|((at, _), _)| *at == layer);
            let pairs = pairs.map(|(&(_, name), LoraPairData { rank, a, b })| {
                LoraPair::from_values(name, a.clone(), b.clone(), *rank, device)
            });
            LoraLayer { pairs: pairs.collect() }
        });
        let layers = layers.collect::<Vec<_>>();
        let in_layers = data.pairs.keys().filter(|(_, name)| *name != LinearName::Head);
        let mut indices = in_layers.map(|(layer, _)| *layer).collect::<Vec<_>>();
        indices.dedup();
        let mut linears = data.pairs.keys().map(|(_, name)| *name).collect::<Vec<_>>();
        linears.sort_unstable();
        linears.dedup();
        let all = indices.len() == model.n_layers;
        let config = LoraConfig {
            rank: data.rank,
            alpha: data.alpha,
            linears,
            layers: (!all).then(|| AdaptedLayers::from_indices(&indices, model.n_layers)),
        };
        Self { layers, config }
    }

    fn to_data(&self) -> Result<LoraData> {
        let pairs = self.layers.iter().enumerate().flat_map(|(layer, own)| {
            own.pairs.iter().map(move |pair| {
                let [rank, _d_in] = pair.a.dims();
                let (a, b) = (param::values(&pair.a)?, param::values(&pair.b)?);
                Ok(((layer, pair.name), LoraPairData { rank, a, b }))
            })
        });
        let pairs = pairs.collect::<Result<_>>()?;
        Ok(LoraData { rank: self.config.rank, alpha: self.config.alpha, pairs })
    }

    fn summary(data: &LoraData) -> LoraSummary {
        LoraSummary { rank: data.rank, alpha: data.alpha, linears: data.pairs.len() }
    }

    fn settings(data: &LoraData) -> LoraSettings {
        LoraSettings::from_data(data)
    }

    fn claims(_name: &str, address: Option<&TensorAddress>) -> bool {
        address.is_some_and(|address| {
            matches!(address.module, ModuleName::Linear(_))
                && LORA_SUFFIXES.contains(&address.suffix)
        })
    }

    fn from_tensors(
        settings: LoraSettings,
        tensors: PartTensors,
        context: &AssembleContext,
        problems: &mut Vec<String>,
    ) -> LoraData {
        lora_from_tensors(&settings, &tensors, context.n_layers, problems)
    }
}
