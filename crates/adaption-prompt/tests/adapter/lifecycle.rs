//! Adapter sets, saving and loading, and the base model's fingerprint.

use std::panic::{AssertUnwindSafe, catch_unwind};

use adaption_prompt::{
    AdaptedLayers, AdapterSet, AdapterWeights, AnyAdapter, BaseInfo, Error, Gate,
};
use llama::NoAdapter;
use testing::assert_close;

use crate::fixtures::{
    adapter_configs, fixed_logits, for_each_base, for_each_base_and_device, logits, max_abs_diff,
    perturbed, perturbed_adapters, prompt_branch, prompt_config,
};
use crate::golden_models::open_base;
use crate::named_tensors;

#[test]
fn switching_disabling_and_removing_restore_logits_bit_for_bit() {
    for_each_base_and_device(|case, llama| {
        let base = fixed_logits(llama, &NoAdapter);
        let mut adapters = AdapterSet::new(llama);
        let mut first = Vec::new();
        for (name, adapter) in perturbed_adapters(llama) {
            adapters.add(name, adapter).unwrap();
            let found = fixed_logits(llama, &adapters.active_or_base());
            assert!(max_abs_diff(&found, &base) > 0.02, "{case} {name}: it changes nothing");
            first.push((name, found));
        }
        for (name, expected) in first.iter().rev() {
            adapters.activate(name).unwrap();
            assert_eq!(fixed_logits(llama, &adapters.active_or_base()), *expected, "{case} {name}");
            assert_eq!(
                fixed_logits(llama, adapters.prepared(name).unwrap()),
                *expected,
                "{case} {name}"
            );
            let without =
                adapters.with_disabled(|adapters| fixed_logits(llama, &adapters.active_or_base()));
            assert_eq!(without, base, "{case} {name}");
            assert_eq!(fixed_logits(llama, &adapters.active_or_base()), *expected, "{case} {name}");
        }
        for (name, _) in &first {
            adapters.remove(name).unwrap();
        }
        assert_eq!(fixed_logits(llama, &adapters.active_or_base()), base, "{case}");
        assert_eq!(fixed_logits(llama, &NoAdapter), base, "{case}");
    });
}

#[test]
fn every_fresh_adapter_equals_the_base_bit_for_bit() {
    for_each_base_and_device(|case, llama| {
        let base = fixed_logits(llama, &NoAdapter);
        for (name, config) in adapter_configs() {
            let fresh = config.init(llama, 3, &llama.device()).unwrap();
            assert_eq!(fixed_logits(llama, &fresh.prepare(llama)), base, "{case} {name}");
        }
    });
}

#[test]
fn every_parameter_has_a_gradient() {
    for_each_base(|case, llama| {
        for (name, config) in adapter_configs() {
            let adapter = perturbed(config, llama, 3, &llama.device().autodiff());
            let scores = logits(llama, &[vec![1, 2, 3, 4, 5]], &adapter.prepare(llama));
            let gradients = scores.square().mean().backward();
            let found = named_tensors::gradients(&adapter, &gradients);
            let numbers: usize = found.values().map(Vec::len).sum();
            assert_eq!(numbers, adapter.n_parameters(), "{case} {name}");
            for (key, gradient) in found {
                let moves = gradient.iter().any(|x| *x != 0.0);
                assert!(moves && gradient.iter().all(|x| x.is_finite()), "{case} {name} {key}");
            }
        }
    });
}

#[test]
fn every_method_round_trips() {
    for_each_base(|case, llama| {
        for (name, adapter) in perturbed_adapters(llama) {
            let folder = tempfile::tempdir().unwrap();
            adapter.save(folder.path(), llama, "base").unwrap();
            let loaded = AdapterWeights::load(folder.path(), llama, &llama.device()).unwrap();
            let numbers = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(numbers(&loaded), numbers(&adapter), "{case} {name}");
            let answers = [&loaded, &adapter].map(|own| fixed_logits(llama, &own.prepare(llama)));
            assert_eq!(answers[0], answers[1], "{case} {name}");
            // Saving over the same folder changes nothing.
            loaded.save(folder.path(), llama, "base").unwrap();
            let again = AdapterWeights::load(folder.path(), llama, &llama.device()).unwrap();
            assert_eq!(numbers(&again), numbers(&adapter), "{case} {name}");
        }
    });
}

#[test]
fn disabled_scope_is_restored_after_a_panic() {
    let llama = open_base("llama-mha", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    adapters
        .add("one", perturbed(prompt_config(4, AdaptedLayers::Last(2)), &llama, 1, &llama.device()))
        .unwrap();
    let adapted = fixed_logits(&llama, &adapters.active_or_base());
    let result = catch_unwind(AssertUnwindSafe(|| {
        adapters.with_disabled(|adapters| {
            assert!(!adapters.is_enabled());
            panic!("on purpose");
        })
    }));
    assert!(result.is_err());
    assert!(adapters.is_enabled());
    assert_eq!(fixed_logits(&llama, &adapters.active_or_base()), adapted);
    // Adapters that were disabled before stay disabled.
    adapters.disable();
    adapters.with_disabled(AdapterSet::enable);
    assert!(!adapters.is_enabled());
}

#[test]
fn renamed_adapter_stays_active_and_unchanged() {
    let llama = open_base("llama-mha", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    for (name, seed) in [("one", 1), ("two", 2)] {
        let adapter =
            perturbed(prompt_config(4, AdaptedLayers::Last(2)), &llama, seed, &llama.device());
        adapters.add(name, adapter).unwrap();
    }
    let answers = ["one", "two"].map(|name| fixed_logits(&llama, adapters.prepared(name).unwrap()));
    adapters.rename("two", "deux").unwrap();
    adapters.rename("one", "one").unwrap();
    adapters.rename("one", "un").unwrap();
    assert_eq!(adapters.active(), Some("deux"));
    let status = adapters.statuses();
    let names = status.iter().map(|own| (own.name.as_str(), own.active)).collect::<Vec<_>>();
    assert_eq!(names, [("un", false), ("deux", true)]);
    let renamed = ["un", "deux"].map(|name| fixed_logits(&llama, adapters.prepared(name).unwrap()));
    assert_eq!(renamed, answers);
    // The old name is free.
    adapters
        .add("one", perturbed(prompt_config(1, AdaptedLayers::Last(1)), &llama, 3, &llama.device()))
        .unwrap();
}

#[test]
fn statuses_report_the_parts() {
    let llama = open_base("llama-mha", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    for (name, adapter) in perturbed_adapters(&llama) {
        adapters.add(name, adapter).unwrap();
    }
    adapters.activate("lora").unwrap();
    let list = adapters.statuses();
    let of = |name: &str| list.iter().find(|own| own.name == name).unwrap();
    assert_eq!(list.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(), {
        adapter_configs().iter().map(|(name, _)| *name).collect::<Vec<_>>()
    });
    assert_eq!(of("everything").parts, ["prompts", "v2", "lora"]);
    assert_eq!((of("everything").adapter_len, &of("everything").layers), (3, &vec![0, 2]));
    assert_eq!(of("v2").parts, ["v2"]);
    assert_eq!((of("v2").adapter_len, of("v2").layers.len()), (0, 0));
    assert_eq!(of("lora").parameters, 3 * 2 * (32 * 3 + 3 * 32));
    assert!(list.iter().all(|own| own.active == (own.name == "lora")));
    assert!(list.iter().all(|own| own.precision == "f32" && !own.device.is_empty()));
}

#[test]
fn prepared_adapter_survives_adding_and_removing_others() {
    let llama = open_base("llama-mha", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    let device = llama.device();
    adapters
        .add("one", perturbed(prompt_config(4, AdaptedLayers::Last(2)), &llama, 1, &device))
        .unwrap();
    let current = adapters.active_or_base();
    let before = fixed_logits(&llama, &current);
    adapters
        .add("two", perturbed(prompt_config(3, AdaptedLayers::Last(1)), &llama, 2, &device))
        .unwrap();
    adapters.remove("one").unwrap();
    assert_eq!(fixed_logits(&llama, &current), before);
}

#[test]
fn adapter_of_another_model_is_refused_unless_forced() {
    let device = testing::flex();
    let (own, alike) = (open_base("llama-rope3", &device), open_base("llama-rope-linear", &device));
    // Its key and value projections are narrower, because of grouped-query attention.
    let narrow = |name: &str| name == "lora" || name == "v2";
    let other = open_base("llama-mha", &device);
    for (name, adapter) in perturbed_adapters(&own) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        adapter.save(path, &own, "their/base").unwrap();
        assert!(AnyAdapter::load(path, &own, &device).is_ok());
        let error = AnyAdapter::load(path, &alike, &device).unwrap_err();
        let Error::BaseMismatch { base, differences, .. } = &error else {
            panic!("{name}: {error}")
        };
        assert_eq!(base.as_deref(), Some("their/base"));
        assert!(differences[0].starts_with("hash of the norms"), "{error}");
        assert!(AdapterWeights::load(path, &alike, &device).is_err());
        // With a fingerprint that is known, the loaded one is not computed.
        let [known, unlike] = [&own, &alike].map(|llama| llama.fingerprint().unwrap());
        assert!(AnyAdapter::load_for(path, &alike, &device, &known).is_ok(), "{name}");
        let refused = AnyAdapter::load_for(path, &own, &device, &unlike);
        assert!(matches!(refused, Err(Error::BaseMismatch { .. })), "{name}");
        let mut adapters = AdapterSet::new(&alike);
        assert!(matches!(adapters.load("it", path), Err(Error::BaseMismatch { .. })), "{name}");
        assert!(adapters.statuses().is_empty());

        let forced = AnyAdapter::load_unchecked(path, &alike, &device).unwrap();
        let expected = fixed_logits(&alike, &adapter.prepare(&alike));
        assert_eq!(fixed_logits(&alike, &forced.prepare(&alike)), expected, "{name}");

        let error = AnyAdapter::load(path, &other, &device).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("key and value heads: 2 and 4"), "{name}: {text}");
        if narrow(name) {
            let error = AnyAdapter::load_unchecked(path, &other, &device).unwrap_err();
            assert!(matches!(error, Error::TensorMismatch { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn identical_prompt_tokens_equal_one_token() {
    for device in testing::devices() {
        for case in ["llama-headdim16", "llama-gqa-tied"] {
            let llama = open_base(case, &device);
            // Equal keys share the softmax: a hundred copies of a token give the same as one.
            let open = |len: usize| {
                let config = prompt_config(len, AdaptedLayers::Last(2));
                let config =
                    adaption_prompt::AdaptionPromptConfig { gate: Gate::PerHead, ..config };
                named_tensors::with_changed_tensors(&config.into(), &llama, 1, &device, |tensors| {
                    for (name, numbers) in tensors {
                        for (index, number) in numbers.iter_mut().enumerate() {
                            let place = (index % llama.config().d_model) as f32;
                            *number = if name.ends_with("gate") { 0.4 } else { place.sin() };
                        }
                    }
                })
            };
            let one = open(1).prepare(&llama);
            let hundred = open(100).prepare(&llama);
            let rows = [vec![7, 8, 9, 10]];
            let expected = logits(&llama, &rows, &one);
            assert!(
                max_abs_diff(&expected.to_data(), &logits(&llama, &rows, &NoAdapter).into_data())
                    > 0.05
            );
            assert_close(case, logits(&llama, &rows, &hundred), expected, 1e-5);
        }
    }
}

#[test]
fn single_prompt_token_gives_its_gated_value() {
    for device in testing::devices() {
        let llama = open_base("llama-headdim16", &device);
        let adapter = perturbed(prompt_config(1, AdaptedLayers::Last(1)), &llama, 4, &device);
        let layer = &adapter.prompts.as_ref().unwrap().layers[0];
        let attention = &llama.layers[2].attention;
        // [1, kv_heads * head_dim], then one key and value head for each group of two query heads.
        let value = attention.value.forward(layer.prompt.val());
        let value = value.reshape([1, 2, 1, 16]).repeat_dim(2, 2).reshape([1, 4, 1, 16]);
        let expected = value.expand([3, 4, 5, 16]) * layer.gate.val().reshape([1, 1, 1, 1]);
        let query = burn::tensor::Tensor::<4>::random(
            [3, 4, 5, 16],
            burn::tensor::Distribution::Normal(0.0, 1.0),
            &device,
        );
        let found = prompt_branch(&adapter.prepare(&llama), 2, &query);
        assert_close("branch", found, expected, 1e-5);
    }
}

#[test]
fn norm_without_trained_bias_keeps_its_own() {
    let llama = open_base("gpt2", &testing::flex());
    let config = adaption_prompt::AdapterConfig::from(adaption_prompt::V2Config::paper());
    let fresh = config.init(&llama, 1, &llama.device()).unwrap();
    let mut data = fresh.to_data(BaseInfo::default()).unwrap();
    for norm in data.v2.as_mut().unwrap().norms.values_mut() {
        assert!(norm.bias.take().is_some());
    }
    let sizes = llama.config().into();
    let adapter =
        AdapterWeights::from_data(&data, &sizes, "a test".as_ref(), &llama.device()).unwrap();
    assert_eq!(fixed_logits(&llama, &adapter.prepare(&llama)), fixed_logits(&llama, &NoAdapter));
}
