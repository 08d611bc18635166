//! The tiny random models of `tests/golden`, and adapters made of golden numbers.

use adaption_prompt::{AdaptionPrompt, AdaptionPromptConfig};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use llama::{Llama, Precision, weights};
use testing::Golden;

/// Equal, grouped, tied and biased heads, another head width, stretched rotary embeddings, a
/// sliding window.
pub const CASES: [&str; 7] = [
    "llama-mha",
    "llama-gqa-tied",
    "llama-bias",
    "llama-headdim16",
    "llama-rope3",
    "llama-rope-linear",
    "mistral-sw8",
];

/// Shape of every golden adapter.
pub fn shape() -> AdaptionPromptConfig {
    AdaptionPromptConfig { adapter_len: 5, adapter_layers: 2, ..Default::default() }
}

/// A case's base model.
pub fn open_base(case: &str, device: &Device) -> Llama {
    open_base_in(Precision::F32, case, device)
}

/// The same with its matrices in `precision`.
pub fn open_base_in(precision: Precision, case: &str, device: &Device) -> Llama {
    let folder = testing::golden_folder().join(case).join("base");
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).expect("golden bases are in the repository");
    let config = weights::huggingface::parse_config(&path, &text).unwrap();
    let source = weights::huggingface::open_weights(&folder).unwrap();
    weights::load(config, &source, precision, device).unwrap()
}

/// An adapter with the parameters of a golden file.
pub fn open_adapter(
    golden: &Golden,
    prefix: &str,
    config: AdaptionPromptConfig,
    llama: &Llama,
    device: &Device,
) -> AdaptionPrompt {
    let mut adapter = config.init(llama.config(), 0, device).unwrap();
    let first = adapter.first_layer();
    for (index, layer) in adapter.layers.iter_mut().enumerate() {
        let key = |what: &str| {
            let layer = first + index;
            format!("{prefix}param.base_model.model.model.layers.{layer}.self_attn.adaption_{what}")
        };
        let prompt = golden.tensor::<3>(&key("prompt"), device).squeeze_dim::<2>(0);
        let (_shape, gate) = golden.floats(&key("gate"));
        layer.prompt = Param::from_tensor(prompt);
        layer.gate = Param::from_tensor(Tensor::from_floats(gate.as_slice(), device));
    }
    adapter
}
