//! The tiny random models of `tests/golden`, and adapters with golden values.

use adaption_prompt::{AdaptedLayers, AdapterWeights, AdaptionPromptConfig};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use llama::{Llama, ModelSource, Precision};
use testing::Golden;

/// Multi-head and grouped-query attention, a tied head, biases, another head width, scaled rotary embeddings,
/// a sliding window; then the other families.
pub const CASES: [&str; 11] = [
    "llama-mha",
    "llama-gqa-tied",
    "llama-bias",
    "llama-headdim16",
    "llama-rope3",
    "llama-rope-linear",
    "mistral-sw8",
    "gpt2",
    "qwen2",
    "qwen3",
    "phi3",
];

/// Config of every golden adapter.
pub fn golden_prompt_config() -> AdaptionPromptConfig {
    AdaptionPromptConfig { adapter_len: 5, layers: AdaptedLayers::Last(2), ..Default::default() }
}

/// A case's base model.
pub fn open_base(case: &str, device: &Device) -> Llama {
    open_base_in(Precision::F32, case, device)
}

/// A case's base model with its matrices in `precision`.
pub fn open_base_in(precision: Precision, case: &str, device: &Device) -> Llama {
    let folder = testing::golden_folder().join(case).join("base");
    let source = ModelSource::open(folder).expect("golden bases are in the repository");
    source.load(precision, device).unwrap()
}

/// An adapter with the parameters of a golden file.
pub fn open_adapter(
    golden: &Golden,
    prefix: &str,
    config: AdaptionPromptConfig,
    llama: &Llama,
    device: &Device,
) -> AdapterWeights {
    let mut adapter = config.init(llama, 0, device).unwrap();
    let indices = adapter.indices().to_vec();
    for (index, layer) in indices.into_iter().zip(&mut adapter.layers) {
        let key = |what: &str| {
            let attention = llama.config().architecture.attention_module(index);
            format!("{prefix}param.base_model.model.{attention}.adaption_{what}")
        };
        let prompt = golden.tensor::<3>(&key("prompt"), device).squeeze_dim::<2>(0);
        let (_shape, gate) = golden.floats(&key("gate"));
        layer.prompt = Param::from_tensor(prompt);
        layer.gate = Param::from_tensor(Tensor::from_floats(gate.as_slice(), device));
    }
    adapter.into()
}
