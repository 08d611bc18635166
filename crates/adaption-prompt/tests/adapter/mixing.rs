//! Mixes: weighted sums of adapters.

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterWeights, AnyAdapter, BaseInfo, Error,
    LoraConfig, MixComponent, V2Config,
};
use burn::tensor::{Distribution, Tensor, activation::softmax};
use llama::model::NormName;
use llama::{Adapter, LinearName, Llama, NoAdapter};
use testing::assert_close;

use crate::fixtures::{
    adapter_configs, fixed_logits, for_each_base, for_each_base_and_device, logits, max_abs_diff,
    perturbed, perturbed_adapters, prompt_branch, prompt_config,
};
use crate::golden_models::open_base;

pub fn mix(parts: &[(f64, &AdapterWeights)]) -> AdapterMix {
    let part = |(index, &(weight, adapter)): (usize, &(f64, &AdapterWeights))| MixComponent {
        name: format!("part{index}"),
        weight,
        adapter: adapter.clone(),
    };
    AdapterMix { components: parts.iter().enumerate().map(part).collect() }
}

fn normal<const D: usize>(shape: [usize; D], llama: &Llama) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &llama.device())
}

#[test]
fn mix_of_one_with_weight_one_equals_the_adapter() {
    for_each_base_and_device(|case, llama| {
        for (name, adapter) in perturbed_adapters(llama) {
            let alone = fixed_logits(llama, &adapter.prepare(llama));
            let mixed = fixed_logits(llama, &mix(&[(1.0, &adapter)]).prepare(llama));
            assert_eq!(mixed, alone, "{case} {name}");
        }
    });
}

#[test]
fn zero_weights_equal_the_base() {
    for_each_base_and_device(|case, llama| {
        let base = logits(llama, &[vec![3, 1, 4, 1, 5]], &NoAdapter);
        let zoo = perturbed_adapters(llama);
        let parts = zoo.iter().map(|(_, adapter)| (0.0, adapter)).collect::<Vec<_>>();
        let mixed = logits(llama, &[vec![3, 1, 4, 1, 5]], &mix(&parts).prepare(llama));
        assert_eq!(mixed.into_data(), base.into_data(), "{case}");
    });
}

#[test]
fn opposite_weights_cancel() {
    for_each_base(|case, llama| {
        let rows = [vec![3, 1, 4, 1, 5]];
        let base = logits(llama, &rows, &NoAdapter);
        for (name, adapter) in perturbed_adapters(llama) {
            let mixed = mix(&[(0.7, &adapter), (-0.7, &adapter)]).prepare(llama);
            // A mix adds the effects of its components, not their parameters.
            assert_close(
                &format!("{case} {name}"),
                logits(llama, &rows, &mixed),
                base.clone(),
                1e-4,
            );
        }
    });
}

#[test]
fn mixing_is_linear_and_commutative() {
    for_each_base(|case, llama| {
        let rows = [vec![3, 1, 4, 1, 5]];
        let zoo = perturbed_adapters(llama);
        let everything = &zoo.last().unwrap().1;
        let whole = logits(llama, &rows, &everything.prepare(llama));
        let halves = mix(&[(0.25, everything), (0.75, everything)]).prepare(llama);
        assert_close(case, logits(llama, &rows, &halves), whole, 1e-4);
        let (a, b) = (&zoo[2].1, &zoo[4].1);
        let one = mix(&[(0.3, a), (0.9, b), (0.2, everything)]).prepare(llama);
        let other = mix(&[(0.2, everything), (0.9, b), (0.3, a)]).prepare(llama);
        assert_close(case, logits(llama, &rows, &one), logits(llama, &rows, &other), 1e-4);
    });
}

/// `softmax(q (Wk p)ᵀ / √d) (Wv p)` times the gate, computed head by head from the weights.
fn reference_branch(
    llama: &Llama,
    adapter: &AdapterWeights,
    layer: usize,
    query: &Tensor<4>,
) -> Tensor<4> {
    let prompts = adapter.prompts.as_ref().unwrap();
    let own = &prompts.layers[prompts.indices().iter().position(|&at| at == layer).unwrap()];
    let attention = &llama.layers[layer].attention;
    let [_batch, heads, _seq, head_dim] = query.dims();
    let project = |weight: Tensor<2>| own.prompt.val().matmul(weight.transpose());
    let (key, value) =
        (project(attention.key.weight.to_dense()), project(attention.value.weight.to_dense()));
    let [_len, kv_width] = key.dims();
    let group = heads / (kv_width / head_dim);
    let branches = (0..heads).map(|head| {
        let cut = |projected: &Tensor<2>| {
            projected.clone().narrow(1, head / group * head_dim, head_dim).unsqueeze::<4>()
        };
        let query = query.clone().narrow(1, head, 1);
        let scores = query.matmul(cut(&key).transpose()) / (head_dim as f64).sqrt();
        softmax(scores, 3).matmul(cut(&value))
    });
    Tensor::cat(branches.collect(), 1) * own.gate.val().reshape([1, 1, 1, 1])
}

#[test]
fn branches_are_weighted_and_added() {
    for device in testing::devices() {
        // Bases without biases, which `reference_branch` does not add.
        for case in ["llama-mha", "llama-gqa-tied", "llama-headdim16"] {
            let llama = open_base(case, &device);
            let adapters = [(5, AdaptedLayers::Last(2)), (2, AdaptedLayers::Chosen(vec![0, 2]))]
                .map(|(len, layers)| {
                    perturbed(prompt_config(len, layers), &llama, len as u64, &device)
                });
            let mixed = mix(&[(0.6, &adapters[0]), (-1.5, &adapters[1])]).prepare(&llama);
            let config = llama.config();
            let query = normal([2, config.n_heads, 3, config.head_dim], &llama);
            let by_hand = |part: usize, layer: usize| {
                reference_branch(&llama, &adapters[part], layer, &query)
            };
            let expected = [
                by_hand(1, 0) * -1.5,
                by_hand(0, 1) * 0.6,
                by_hand(0, 2) * 0.6 + by_hand(1, 2) * -1.5,
            ];
            for (layer, expected) in expected.into_iter().enumerate() {
                let found = prompt_branch(&mixed, layer, &query);
                assert_close(&format!("{case} layer {layer}"), found, expected, 1e-4);
            }
        }
    }
}

#[test]
fn linear_and_norm_changes_are_weighted_and_added() {
    for device in testing::devices() {
        let llama = open_base("llama-bias", &device);
        let v2 = perturbed(V2Config::paper(), &llama, 1, &device);
        let on_input = perturbed(V2Config::input_scale(), &llama, 2, &device);
        let lora =
            perturbed(LoraConfig { rank: 3, alpha: 5.0, ..Default::default() }, &llama, 3, &device);
        let mixed = mix(&[(0.5, &v2), (-0.3, &on_input), (1.2, &lora)]).prepare(&llama);
        let (layer, name) = (1, LinearName::Query);
        let linear = &llama.layers[layer].attention.query;
        let input = normal([2, 3, llama.config().d_model], &llama);

        let times = |x: Tensor<3>, w: Tensor<2>| x.matmul(w.transpose().unsqueeze());
        let weight = linear.weight.to_dense();
        let base =
            times(input.clone(), weight.clone()) + linear.bias.as_ref().unwrap().val().unsqueeze();
        let row = |param: &Option<burn::module::Param<Tensor<1>>>| {
            param.as_ref().unwrap().val().unsqueeze::<3>()
        };
        let own = |adapter: &AdapterWeights| {
            adapter.v2.as_ref().unwrap().layers[layer].linears[0].clone()
        };
        let (output, inside) = (own(&v2), own(&on_input));
        assert_eq!((output.name, inside.name), (name, name));
        let first = row(&output.scale) * (base.clone() + row(&output.bias));
        let second = times(input.clone() * row(&inside.scale), weight)
            + linear.bias.as_ref().unwrap().val().unsqueeze()
            + row(&inside.bias);
        let pair = &lora.lora.as_ref().unwrap().layers[layer].pairs[0];
        let third = times(times(input.clone(), pair.a.val()), pair.b.val()) * (5.0 / 3.0);
        let expected =
            base.clone() + (first - base.clone()) * 0.5 + (second - base) * -0.3 + third * 1.2;
        let found = mixed.linear(layer, name, &input, linear).unwrap();
        assert_close("linear", found, expected, 1e-4);

        let norm = &llama.layers[layer].feed_forward_norm;
        let of = |adapter: &AdapterWeights| {
            adapter.v2.as_ref().unwrap().layers[layer].norms[1].weight.val()
        };
        let own = norm.weight.val();
        let expected = own.clone() + (of(&v2) - own.clone()) * 0.5 + (of(&on_input) - own) * -0.3;
        let found = mixed.norm(layer, NormName::FeedForward, norm).unwrap();
        assert_close("norm", found.weight, expected.unsqueeze(), 1e-5);
    }
}

#[test]
fn disjoint_parts_mix_to_the_joint_adapter() {
    // Prompts do not depend on LoRA of the query projections, so the mix equals the joint adapter.
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let lora = LoraConfig { linears: vec![LinearName::Query], ..Default::default() };
        let prompts = prompt_config(4, AdaptedLayers::Last(2));
        let both = AdapterConfig { lora: Some(lora), ..prompts.into() };
        let both = perturbed(both, &llama, 1, &device);
        let AdapterWeights { prompts, lora, .. } = both.clone();
        let prompts = AdapterWeights { prompts, ..AdapterWeights::empty() };
        let lora = AdapterWeights { lora, ..AdapterWeights::empty() };
        let mixed = mix(&[(1.0, &prompts), (1.0, &lora)]);
        let rows = [vec![3, 1, 4, 1, 5]];
        let expected = logits(&llama, &rows, &both.prepare(&llama));
        assert_close("both", logits(&llama, &rows, &mixed.prepare(&llama)), expected, 1e-5);
    }
}

#[test]
fn mix_round_trips() {
    for_each_base(|case, llama| {
        let zoo = perturbed_adapters(llama);
        let (scalar, everything) = (&zoo[0].1, &zoo.last().unwrap().1);
        let saved = AnyAdapter::from(mix(&[(0.125, scalar), (-2.5, everything)]));
        let folder = tempfile::tempdir().unwrap();
        saved.save(folder.path(), llama, "base").unwrap();
        let loaded = AnyAdapter::load(folder.path(), llama, &llama.device()).unwrap();
        let (AnyAdapter::Mix(found), AnyAdapter::Mix(expected)) = (&loaded, &saved) else {
            panic!("{case}: not a mix")
        };
        for (found, expected) in found.components.iter().zip(&expected.components) {
            assert_eq!((&found.name, found.weight), (&expected.name, expected.weight));
            let numbers = |part: &MixComponent| part.adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(numbers(found), numbers(expected), "{case}");
        }
        let before = fixed_logits(llama, &saved.prepare(llama));
        assert_eq!(fixed_logits(llama, &loaded.prepare(llama)), before, "{case}");
        assert!(max_abs_diff(&before, &fixed_logits(llama, &NoAdapter)) > 0.02);
        // A component is an adapter, the mix is not a single adapter.
        let part = AdapterWeights::load(&folder.path().join("part0"), llama, &llama.device());
        assert!(part.is_ok());
        let error = AdapterWeights::load(folder.path(), llama, &llama.device()).unwrap_err();
        assert!(matches!(error, Error::IsMix { .. }), "{error}");
    });
}

#[test]
fn a_mix_for_another_model_is_refused() {
    let device = testing::flex();
    let (own, alike) = (open_base("llama-rope3", &device), open_base("mistral-sw8", &device));
    let folder = tempfile::tempdir().unwrap();
    let adapter = perturbed(prompt_config(3, AdaptedLayers::Last(2)), &own, 1, &device);
    AnyAdapter::from(mix(&[(1.0, &adapter)])).save(folder.path(), &own, "base").unwrap();
    let error = AnyAdapter::load(folder.path(), &alike, &device).unwrap_err();
    assert!(matches!(error, Error::BaseMismatch { .. }), "{error}");
    assert!(AnyAdapter::load_unchecked(folder.path(), &alike, &device).is_ok());
}

#[test]
fn invalid_component_folder_name_is_refused() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = perturbed(prompt_config(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
    for name in ["", "..", "a/b", "../x", ".hidden"] {
        let part = MixComponent { name: name.into(), weight: 1.0, adapter: adapter.clone() };
        let folder = tempfile::tempdir().unwrap();
        let error = AnyAdapter::from(AdapterMix { components: vec![part] })
            .save(&folder.path().join("mix"), &llama, "base")
            .unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{name}: {error}");
    }
}

#[test]
fn mix_of_every_pair_of_methods_is_finite() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let zoo = perturbed_adapters(&llama);
    assert_eq!(zoo.len(), adapter_configs().len());
    let base = fixed_logits(&llama, &NoAdapter);
    for (a, first) in &zoo {
        for (b, second) in &zoo {
            let found = fixed_logits(&llama, &mix(&[(0.5, first), (0.5, second)]).prepare(&llama));
            assert!(found.iter::<f32>().all(f32::is_finite), "{a} {b}");
            assert!(max_abs_diff(&found, &base) > 0.01, "{a} {b}");
        }
    }
}

#[test]
fn invalid_mix_is_not_written() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = perturbed(prompt_config(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
    let part =
        |name: &str, weight| MixComponent { name: name.into(), weight, adapter: adapter.clone() };
    for parts in [
        vec![],
        vec![part("one", 1.0), part("one", 2.0)],
        vec![part("one", 1.0), part("two", f64::NAN)],
        vec![part("one", f64::INFINITY)],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error =
            AnyAdapter::from(AdapterMix { components: parts }).save(folder.path(), &llama, "base");
        assert!(matches!(error, Err(Error::Config { .. } | Error::NameTaken { .. })), "{error:?}");
        // Nothing was written.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn saving_a_mix_removes_the_peft_files() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = perturbed(prompt_config(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &llama, "base").unwrap();
    let mixed = AnyAdapter::from(mix(&[(0.5, &adapter)]));
    mixed.save(folder.path(), &llama, "base").unwrap();
    assert!(!folder.path().join("adapter_config.json").exists());
    assert!(!folder.path().join("adapter_model.safetensors").exists());
    let loaded = AnyAdapter::load(folder.path(), &llama, &llama.device()).unwrap();
    let expected = fixed_logits(&llama, &mixed.prepare(&llama));
    assert_eq!(fixed_logits(&llama, &loaded.prepare(&llama)), expected);
    // An adapter saved over a mix.
    adapter.save(folder.path(), &llama, "base").unwrap();
    let loaded = AdapterWeights::load(folder.path(), &llama, &llama.device()).unwrap();
    let expected = fixed_logits(&llama, &adapter.prepare(&llama));
    assert_eq!(fixed_logits(&llama, &loaded.prepare(&llama)), expected);
}
