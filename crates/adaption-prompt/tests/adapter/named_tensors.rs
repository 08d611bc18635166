//! An adapter's values and gradients by tensor name. The names are independent of those in the library.

use std::collections::BTreeMap;

use adaption_prompt::{AdapterConfig, AdapterData, AdapterWeights, BaseInfo};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor};
use llama::config::ModelShape;
use llama::model::NormName;
use llama::{LinearName, Llama};
use testing::Golden;

fn linear(layer: usize, name: LinearName) -> String {
    let place = match name {
        LinearName::Query => "self_attn.q_proj",
        LinearName::Key => "self_attn.k_proj",
        LinearName::Value => "self_attn.v_proj",
        LinearName::Output => "self_attn.o_proj",
        LinearName::Gate => "mlp.gate_proj",
        LinearName::Up => "mlp.up_proj",
        LinearName::Down => "mlp.down_proj",
        LinearName::Head => return "base_model.model.lm_head".into(),
    };
    format!("base_model.model.model.layers.{layer}.{place}")
}

fn norm(layer: usize, name: NormName) -> String {
    let place = match name {
        NormName::Attention => "input_layernorm",
        NormName::FeedForward => "post_attention_layernorm",
        NormName::Final => return "base_model.model.model.norm".into(),
    };
    format!("base_model.model.model.layers.{layer}.{place}")
}

/// Every tensor of an adapter by name.
pub fn tensors(data: &mut AdapterData) -> BTreeMap<String, &mut [f32]> {
    let mut found: BTreeMap<String, &mut [f32]> = BTreeMap::new();
    for (layer, own) in data.prompts.iter_mut().flat_map(|prompts| &mut prompts.layers) {
        let at = format!("base_model.model.model.layers.{layer}.self_attn.adaption");
        found.insert(format!("{at}_prompt"), &mut own.prompt);
        found.insert(format!("{at}_gate"), &mut own.gate);
        if let Some(factor) = &mut own.factor {
            found.insert(format!("{at}_factor"), std::slice::from_mut(factor));
        }
    }
    if let Some(v2) = &mut data.v2 {
        for ((layer, name), own) in &mut v2.linears {
            let at = linear(*layer, *name);
            for (what, values) in [("scale", &mut own.scale), ("bias", &mut own.bias)] {
                if let Some(values) = values {
                    found.insert(format!("{at}.adapter_{what}"), values);
                }
            }
        }
        for ((layer, name), own) in &mut v2.norms {
            let at = norm(*layer, *name);
            found.insert(format!("{at}.weight"), &mut own.weight);
            if let Some(bias) = &mut own.bias {
                found.insert(format!("{at}.bias"), bias);
            }
        }
    }
    for ((layer, name), own) in data.lora.iter_mut().flat_map(|lora| &mut lora.pairs) {
        let at = linear(*layer, *name);
        found.insert(format!("{at}.lora_A.weight"), &mut own.a);
        found.insert(format!("{at}.lora_B.weight"), &mut own.b);
    }
    for (name, (_shape, values)) in data.image.iter_mut().flat_map(|own| &mut own.tensors) {
        found.insert(name.clone(), values);
    }
    found
}

/// A fresh adapter with values changed by `change`.
pub fn with_changed_tensors(
    config: &AdapterConfig,
    llama: &Llama,
    seed: u64,
    device: &Device,
    change: impl FnOnce(BTreeMap<String, &mut [f32]>),
) -> AdapterWeights {
    let sizes = ModelShape::from(llama.config());
    let fresh = config.init(llama, seed, &llama.device()).unwrap();
    let mut data =
        fresh.to_data(BaseInfo { sizes: Some(sizes.clone()), ..Default::default() }).unwrap();
    change(tensors(&mut data));
    AdapterWeights::from_data(&data, &sizes, "a test".as_ref(), device).unwrap()
}

/// The adapter of a golden file.
///
/// # Panics
/// If the file's tensors are not exactly the adapter's.
pub fn open_golden(
    golden: &Golden,
    config: &AdapterConfig,
    llama: &Llama,
    device: &Device,
) -> AdapterWeights {
    with_changed_tensors(config, llama, 0, device, |tensors| {
        let mut theirs = golden.names();
        theirs.retain_mut(|name| match name.strip_prefix("param.") {
            Some(key) => {
                *name = key.into();
                true
            }
            None => false,
        });
        theirs.sort();
        assert_eq!(theirs, tensors.keys().cloned().collect::<Vec<_>>());
        for (key, numbers) in tensors {
            numbers.copy_from_slice(&golden.floats(&format!("param.{key}")).1);
        }
    })
}

/// Every gradient of an adapter by tensor name.
///
/// # Panics
/// If a tensor has no gradient.
pub fn gradients(adapter: &AdapterWeights, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    /// Replaces each parameter by its gradient.
    struct Mapper<'a>(&'a Gradients);
    impl ModuleMapper for Mapper<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor(param.val().grad(self.0).expect("every parameter has a gradient"))
        }
    }
    let mut data =
        adapter.clone().map(&mut Mapper(gradients)).to_data(BaseInfo::default()).unwrap();
    tensors(&mut data).into_iter().map(|(name, values)| (name, values.to_vec())).collect()
}
