//! A model with random weights, and adapters of every method with open gates.

use std::path::Path;
use std::sync::Arc;

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, LoraConfig, MixComponent, PreparedAdapter, PromptInit, V2Config,
};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use llama::config::Architecture;
use llama::{LinearName, Llama, LlamaConfig, Precision};
use rand::RngExt;
use rand::rngs::StdRng;
use serve::{AdapterChoice, AdapterSource, Engine, EngineConfig, EngineModel, ImageEncoders};
use testing::tiny_model;
use text::Tokenizer;

/// A model, its adapters, and what an engine needs besides.
pub struct World {
    pub llama: Llama,
    pub tokenizer: Tokenizer,
    pub adapters: Vec<(String, AdapterWeights)>,
    pub images: Option<Arc<dyn ImageEncoders>>,
}

/// Tokens of the model's context.
const CONTEXT: usize = 1024;

impl World {
    /// A Llama with grouped-query attention.
    pub fn new(device: &Device, precision: Precision) -> Self {
        let config = LlamaConfig { d_model: 64, head_dim: 16, d_ff: 96, ..tiny_model::config() };
        Self::with_config(config, precision, device)
    }

    /// A model of a family, with its peculiarities.
    pub fn of_family(family: &Architecture, device: &Device) -> Self {
        Self::with_config(tiny_model::family_config(family), Precision::F32, device)
    }

    fn with_config(config: LlamaConfig, precision: Precision, device: &Device) -> Self {
        let tokenizer = built_in::model().unwrap().tokenizer().unwrap();
        let config =
            LlamaConfig { vocab_size: tokenizer.vocab_size(), max_positions: CONTEXT, ..config };
        let llama = tiny_model::model_with_precision(precision, config, device);
        let open = |(index, (name, config)): (usize, (&str, AdapterConfig))| {
            let adapter = config.init(&llama, index as u64, device).unwrap();
            (name.to_owned(), adapter.map(&mut Perturb(index as u32)))
        };
        let adapters = adapter_configs().into_iter().enumerate().map(open).collect();
        Self { llama, tokenizer, adapters, images: None }
    }

    /// An engine with all adapters.
    pub fn engine(&self, config: EngineConfig) -> Engine {
        let model = EngineModel {
            llama: self.llama.clone(),
            tokenizer: self.tokenizer.clone(),
            name: "random".into(),
            images: self.images.clone(),
        };
        let source = |(name, adapter): &(String, AdapterWeights)| {
            let base = BaseInfo::from_config(self.llama.config(), None);
            AdapterSource::data(name.clone(), adapter.to_data(base).unwrap())
        };
        let sources = self.adapters.iter().map(source).collect();
        Engine::start(model, sources, config, Arc::new(())).unwrap()
    }

    /// Random tokens, none of which ends an answer.
    pub fn tokens(&self, rng: &mut StdRng, len: usize) -> Vec<u32> {
        let vocab = self.tokenizer.vocab_size() as u32;
        (0..len).map(|_| rng.random_range(3..vocab)).collect()
    }

    /// A mix of an adapter of each kind, in the order of their names.
    pub fn mix() -> AdapterChoice {
        let parts = [("lora", 0.5), ("prompts", 0.8), ("v2", -0.3)];
        AdapterChoice::Mix(parts.map(|(name, weight)| (name.to_owned(), weight)).to_vec())
    }

    /// The adapter of a request, prepared without an engine.
    pub fn prepared(&self, choice: &AdapterChoice) -> Option<PreparedAdapter> {
        let weights = |name: &str| {
            let found = self.adapters.iter().find(|(own, _)| own == name);
            // As an engine reads them: from numbers in host memory.
            let base = BaseInfo::from_config(self.llama.config(), None);
            let data = found.unwrap().1.to_data(base).unwrap();
            let (shape, device) = (self.llama.config().into(), self.llama.device());
            AdapterWeights::from_data(&data, &shape, Path::new(name), &device).unwrap()
        };
        match choice {
            AdapterChoice::Base => None,
            AdapterChoice::Named(name) => Some(weights(name).prepare(&self.llama)),
            AdapterChoice::Mix(parts) => {
                let components = parts.iter().map(|(name, weight)| MixComponent {
                    name: name.clone(),
                    weight: *weight,
                    adapter: weights(name),
                });
                Some(AdapterMix { components: components.collect() }.prepare(&self.llama))
            }
        }
    }
}

/// Eight adapters of all methods.
fn adapter_configs() -> Vec<(&'static str, AdapterConfig)> {
    use LinearName::{Down, Key, Output, Query, Up, Value};
    let prompts = |adapter_len, layers| AdaptionPromptConfig {
        adapter_len,
        layers,
        init: PromptInit { gate: 0.5, gate_std: 0.2, ..PromptInit::default() },
        ..AdaptionPromptConfig::default()
    };
    let heads = AdaptionPromptConfig {
        gate: Gate::PerHead,
        activation: GateActivation::Tanh,
        ..prompts(17, AdaptedLayers::Chosen(vec![0, 2]))
    };
    let lora = |linears| LoraConfig { rank: 3, alpha: 6.0, linears, ..LoraConfig::default() };
    vec![
        ("prompts", prompts(10, AdaptedLayers::Last(2)).into()),
        ("long-prompts", prompts(33, AdaptedLayers::Last(3)).into()),
        ("heads", heads.clone().into()),
        ("v2", V2Config::paper().into()),
        ("v2-input", V2Config::input_scale().into()),
        ("lora", lora(vec![Query, Value]).into()),
        ("wide-lora", lora(vec![Key, Output, Up, Down]).into()),
        (
            "everything",
            AdapterConfig {
                v2: Some(V2Config::lit()),
                lora: Some(lora(vec![Query, Down])),
                ..heads.into()
            },
        ),
    ]
}

/// Moves every parameter away from its initial value, which changes nothing.
pub struct Perturb(pub u32);

impl ModuleMapper for Perturb {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        let seed = self.0 as f32;
        param.map(|values| {
            let dims = values.dims();
            let count = dims.iter().product::<usize>();
            let waves = Tensor::<1, burn::tensor::Int>::arange(0..count as i64, &values.device());
            let waves = (waves.float() * 1.7 + seed).sin() * 0.15;
            values + waves.reshape(dims)
        })
    }
}
