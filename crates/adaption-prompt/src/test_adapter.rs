//! A tiny model and an adapter of every part, for unit tests.

use llama::{Llama, LlamaConfig, weights};

use crate::adapted_layers::AdaptedLayers;
use crate::adapter::config::AdapterConfig;
use crate::adapter::data::AdapterData;
use crate::base::BaseInfo;
use crate::gate::{Gate, GateActivation};
use crate::parts::{
    AdaptionPromptConfig, ImageConfig, ImageFusion, ImageProjectorConfig, LoraConfig, PartKind,
    PromptInit, V2Config,
};

/// Sets of parts that are valid adapters: each part, with the prompts if it needs them.
pub(crate) const PART_SETS: &[&[PartKind]] = &[
    &[PartKind::Prompts],
    &[PartKind::V2],
    &[PartKind::Lora],
    &[PartKind::Prompts, PartKind::Image],
    PartKind::ALL,
];

/// Three layers of width 8.
pub(crate) fn tiny_llama() -> Llama {
    let config = LlamaConfig {
        n_layers: 3,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 4,
        d_model: 8,
        d_ff: 6,
        vocab_size: 16,
        max_positions: 16,
        norm_eps: 1e-5,
        ..LlamaConfig::default()
    };
    weights::random_init(config, &testing::flex()).unwrap()
}

/// A config of some parts.
pub(crate) fn part_set(kinds: &[PartKind]) -> AdapterConfig {
    let parts: [AdapterConfig; PartKind::ALL.len()] = [
        AdaptionPromptConfig {
            adapter_len: 2,
            layers: AdaptedLayers::Last(2),
            gate: Gate::PerHead,
            activation: GateActivation::Tanh,
            factor: true,
            // Nonzero gates, since some formats drop layers with zero gates.
            init: PromptInit { gate: 0.5, ..PromptInit::default() },
            ..Default::default()
        }
        .into(),
        V2Config::lit().into(),
        LoraConfig { rank: 2, ..Default::default() }.into(),
        ImageConfig {
            features: 3,
            form: ImageProjectorConfig::Queries { count: 2, width: 4, blocks: 1, heads: 2 },
            fusion: ImageFusion::Prompts { gate: 0.25 },
            encoder: None,
        }
        .into(),
    ];
    let parts = parts.into_iter().filter(|part| kinds.contains(&part.kinds()[0]));
    let config = parts.fold(AdapterConfig::empty(), AdapterConfig::or);
    assert_eq!(config.kinds(), kinds);
    config
}

/// An adapter of every part.
pub(crate) fn full_data() -> AdapterData {
    let llama = tiny_llama();
    let weights = part_set(PartKind::ALL).init(&llama, 3, &llama.device()).unwrap();
    weights.to_data(BaseInfo::from_config(llama.config(), None)).unwrap()
}
