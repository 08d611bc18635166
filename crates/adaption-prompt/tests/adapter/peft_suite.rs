//! The tests of PEFT's own suite for this method, with the correct results where PEFT is wrong.

use std::collections::BTreeSet;
use std::path::Path;

use adaption_prompt::files::{SETTINGS_FILE, peft, read_folder};
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterSet, AdapterWeights, AdaptionPromptConfig, BaseInfo, Error,
};
use burn::tensor::TensorData;
use checkpoint::{ByteSource, SafetensorsFile};
use llama::{GenerationConfig, KvCache, NoAdapter, Precision, generate};

use crate::fixtures::{
    attention_key, fixed_logits, for_each_base, for_each_base_and_device, logits, max_abs_diff,
    perturbed, prompt_config,
};
use crate::golden_models::{open_base, open_base_in};
use crate::named_tensors;

/// Four tokens in the last two layers.
fn config() -> AdaptionPromptConfig {
    prompt_config(4, AdaptedLayers::Last(2))
}

fn file_names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn tensors(folder: &Path) -> SafetensorsFile {
    SafetensorsFile::new(ByteSource::open(folder.join(peft::TENSORS_FILE)).unwrap()).unwrap()
}

#[test]
fn status_reports_layers_prompt_length_and_parameters() {
    for_each_base(|case, llama| {
        let d_model = llama.config().d_model;
        let mut adapters = AdapterSet::new(llama);
        adapters.add("default", perturbed(config(), llama, 1, &llama.device())).unwrap();
        let status = adapters.statuses().remove(0);
        assert_eq!(status.name, "default", "{case}");
        assert_eq!(status.layers, [1, 2]);
        assert_eq!(status.adapter_len, 4);
        assert_eq!(status.parameters, 2 * (4 * d_model + 1));
        assert_eq!(status.parts, ["prompts"]);
        assert!(status.active && !status.trainable);
        let learning = perturbed(config(), llama, 1, &llama.device().autodiff());
        adapters.add("learning", learning).unwrap();
        assert!(adapters.statuses()[1].trainable);
    });
}

#[test]
fn only_the_adapter_has_gradients() {
    for_each_base_and_device(|case, llama| {
        let adapter = perturbed(config(), llama, 1, &llama.device().autodiff());
        let rows = [vec![1, 2, 3, 4]];
        let pass = llama.forward_context(1, 4).unwrap();
        let embedded = llama.embed(llama.tokens(&rows).unwrap(), &pass);
        assert!(!embedded.is_tracked(), "{case}");
        let scores = logits(llama, &rows, &adapter.prepare(llama));
        assert!(scores.is_tracked());
        let gradients = scores.square().mean().backward();
        assert!(llama.embedding.to_dense().grad(&gradients).is_none());
        let found = named_tensors::gradients(&adapter, &gradients);
        assert_eq!(found.len(), 4);
        for (name, gradient) in found {
            assert!(gradient.iter().any(|x| *x != 0.0), "{case} {name}");
        }
    });
}

#[test]
fn folder_contains_only_the_adapter() {
    for_each_base(|case, llama| {
        let d_model = llama.config().d_model;
        let adapter = perturbed(config(), llama, 1, &llama.device());
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), llama, "some/base").unwrap();
        let files = [peft::CONFIG_FILE, peft::TENSORS_FILE, SETTINGS_FILE];
        assert_eq!(file_names(folder.path()), files.map(str::to_owned).into());

        let expected = [1, 2].into_iter().flat_map(|layer| {
            let at = attention_key(case, layer);
            let prompt = (format!("{at}.adaption_prompt"), vec![1, 4, d_model]);
            [prompt, (format!("{at}.adaption_gate"), vec![1])]
        });
        assert_eq!(*tensors(folder.path()).shapes(), expected.collect());

        let loaded = AdapterWeights::load(folder.path(), llama, &llama.device()).unwrap();
        let numbers = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
        assert_eq!(numbers(&loaded), numbers(&adapter));
        let both = [&loaded, &adapter].map(|adapter| fixed_logits(llama, &adapter.prepare(llama)));
        assert_eq!(both[0], both[1]);
        // The folder names its base.
        let base = read_folder(folder.path()).unwrap().base;
        assert_eq!(base.name.as_deref(), Some("some/base"));
    });
}

#[test]
fn one_of_several_adapters_is_saved() {
    for_each_base(|case, llama| {
        let mut adapters = AdapterSet::new(llama);
        adapters.add("default", perturbed(config(), llama, 1, &llama.device())).unwrap();
        let other = prompt_config(6, AdaptedLayers::Last(1));
        adapters.add("other", perturbed(other, llama, 2, &llama.device())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        adapters.save("other", &folder.path().join("other"), "base").unwrap();
        assert_eq!(file_names(folder.path()), ["other".to_owned()].into());
        let saved = read_folder(&folder.path().join("other")).unwrap().prompts.unwrap();
        assert_eq!(saved.adapter_len, 6, "{case}");
        assert_eq!(saved.layers.keys().copied().collect::<Vec<_>>(), [2]);
        let error = adapters.save("third", folder.path(), "base").unwrap_err();
        assert!(matches!(error, Error::NoSuchAdapter { .. }));
    });
}

#[test]
fn inactive_adapter_is_saved_with_its_own_parameters() {
    // PEFT saves it with the parameters of the active adapter (its issue 3638).
    for_each_base(|case, llama| {
        let (first, second) = (
            perturbed(config(), llama, 1, &llama.device()),
            perturbed(config(), llama, 2, &llama.device()),
        );
        let mut adapters = AdapterSet::new(llama);
        adapters.add("first", first.clone()).unwrap();
        adapters.add("second", second.clone()).unwrap();
        assert_eq!(adapters.active(), Some("second"));
        adapters.disable();
        for (name, adapter) in [("first", first), ("second", second)] {
            let folder = tempfile::tempdir().unwrap();
            adapters.save(name, folder.path(), "base").unwrap();
            let loaded = AdapterWeights::load(folder.path(), llama, &llama.device()).unwrap();
            let numbers = |adapter: &AdapterWeights| adapter.to_data(BaseInfo::default()).unwrap();
            assert_eq!(numbers(&loaded), numbers(&adapter), "{case} {name}");
        }
    });
}

#[test]
fn left_padded_generation_equals_single_rows() {
    for_each_base_and_device(|case, llama| {
        let adapter = perturbed(config(), llama, 1, &llama.device()).prepare(llama);
        let prompts = [vec![5, 6, 7, 8, 9], vec![10, 11], vec![12]];
        let config = GenerationConfig { max_new_tokens: 10, ..Default::default() };
        let together = generate(llama, &adapter, &prompts, &config).unwrap();
        for (prompt, found) in prompts.iter().zip(together) {
            let alone = generate(llama, &adapter, std::slice::from_ref(prompt), &config).unwrap();
            assert_eq!(found.tokens, alone[0].tokens, "{case}");
        }
    });
}

#[test]
fn adding_opening_disabling_enabling_switching_and_removing_in_turn() {
    for_each_base_and_device(|case, llama| {
        let device = llama.device();
        let base = fixed_logits(llama, &NoAdapter);
        let mut adapters = AdapterSet::new(llama);
        let now = |adapters: &AdapterSet| fixed_logits(llama, &adapters.active_or_base());
        assert_eq!(now(&adapters), base, "{case}: no adapters");

        let fresh = AdapterConfig::from(config()).init(llama, 1, &device).unwrap();
        adapters.add("fresh", fresh).unwrap();
        assert_eq!(now(&adapters), base, "{case}: zero gates");

        adapters.add("default", perturbed(config(), llama, 1, &device)).unwrap();
        let adapted = now(&adapters);
        assert!(max_abs_diff(&adapted, &base) > 0.05, "{case}");
        adapters.disable();
        assert_eq!(now(&adapters), base, "{case}: disabled");
        adapters.enable();
        assert_eq!(now(&adapters), adapted, "{case}: enabled");

        adapters
            .add("other", perturbed(prompt_config(2, AdaptedLayers::Last(3)), llama, 2, &device))
            .unwrap();
        let other = now(&adapters);
        assert!(max_abs_diff(&other, &adapted) > 0.05);
        adapters.activate("default").unwrap();
        assert_eq!(now(&adapters), adapted, "{case}: switched back");
        adapters.remove("other").unwrap();
        assert_eq!(now(&adapters), adapted, "{case}: an inactive one removed");
        adapters.remove("default").unwrap();
        assert_eq!(now(&adapters), base, "{case}: the active one removed");
        assert_eq!(adapters.active(), None);
    });
}

#[test]
fn adapter_added_while_disabled_has_no_effect_until_enabled() {
    for_each_base_and_device(|case, llama| {
        let device = llama.device();
        let base = fixed_logits(llama, &NoAdapter);
        let mut adapters = AdapterSet::new(llama);
        let now = |adapters: &AdapterSet| fixed_logits(llama, &adapters.active_or_base());
        adapters.add("first", perturbed(config(), llama, 1, &device)).unwrap();
        let first = now(&adapters);

        adapters.disable();
        adapters.add("second", perturbed(config(), llama, 2, &device)).unwrap();
        assert_eq!(adapters.active(), Some("second"));
        assert_eq!(now(&adapters), base, "{case}: added");
        adapters.enable();
        let second = now(&adapters);
        assert!(max_abs_diff(&second, &first) > 0.05, "{case}");

        adapters.disable();
        adapters.activate("first").unwrap();
        assert_eq!(now(&adapters), base, "{case}: activated");
        adapters.enable();
        assert_eq!(now(&adapters), first, "{case}");
    });
}

#[test]
fn disable_and_enable_are_idempotent() {
    // PEFT raises an error.
    let llama = open_base("llama-mha", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    adapters.add("default", perturbed(config(), &llama, 1, &llama.device())).unwrap();
    let adapted = fixed_logits(&llama, &adapters.active_or_base());
    adapters.disable();
    adapters.disable();
    assert_eq!(fixed_logits(&llama, &adapters.active_or_base()), fixed_logits(&llama, &NoAdapter));
    adapters.enable();
    adapters.enable();
    assert_eq!(fixed_logits(&llama, &adapters.active_or_base()), adapted);
}

#[test]
fn cached_logits_equal_uncached() {
    for_each_base_and_device(|case, llama| {
        let adapter = perturbed(config(), llama, 1, &llama.device()).prepare(llama);
        let row = vec![9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3, 4];
        let whole = logits(llama, std::slice::from_ref(&row), &adapter);
        let device = llama.device();
        let mut state = KvCache::new(llama.config(), vec![0], row.len(), &device).unwrap();
        for (position, &token) in row.iter().enumerate() {
            let tokens = llama.tokens(&[vec![token]]).unwrap();
            let hidden = llama.forward(tokens, Some(&mut state), &adapter).unwrap();
            let found = llama.logits(hidden, &adapter);
            let expected = whole.clone().narrow(1, position, 1);
            testing::assert_close(&format!("{case} {position}"), found, expected, 1e-4);
        }
    });
}

#[test]
fn half_precision_base_gives_similar_logits() {
    for_each_base(|case, llama| {
        for precision in [Precision::BF16, Precision::F16] {
            let half = open_base_in(precision, case, &llama.device());
            let adapter = perturbed(config(), llama, 1, &llama.device());
            let whole = fixed_logits(llama, &adapter.prepare(llama));
            let found = fixed_logits(&half, &adapter.prepare(&half));
            let base = fixed_logits(&half, &NoAdapter);
            assert!(found.iter::<f32>().all(f32::is_finite));
            let (error, effect) = (max_abs_diff(&found, &whole), max_abs_diff(&found, &base));
            assert!(error < 0.5 && error < 0.5 * effect, "{case} {precision:?} {error} {effect}");
            let config = GenerationConfig { max_new_tokens: 3, ..Default::default() };
            let texts = generate(&half, &adapter.prepare(&half), &[vec![1, 2]], &config).unwrap();
            assert_eq!(texts[0].tokens.len(), 3);
        }
    });
}

#[test]
fn duplicate_and_unknown_names_are_errors() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = || perturbed(config(), &llama, 1, &llama.device());
    let mut adapters = AdapterSet::new(&llama);
    let error = adapters.activate("first").unwrap_err();
    assert_eq!(error.to_string(), "no adapter is called `first`; there are none");
    adapters.add("first", adapter()).unwrap();
    adapters.add("second", adapter()).unwrap();
    let error = adapters.add("first", adapter()).unwrap_err();
    assert_eq!(error.to_string(), "an adapter called `first` is already loaded");
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(adapters.load("first", folder.path()), Err(Error::NameTaken { .. })));
    assert!(matches!(adapters.rename("first", "second"), Err(Error::NameTaken { .. })));
    // The errors changed nothing.
    assert_eq!(adapters.active(), Some("second"));
    assert_eq!(adapters.statuses().len(), 2);

    let unknown = [
        adapters.activate("third").unwrap_err(),
        adapters.remove("third").unwrap_err(),
        adapters.rename("third", "fourth").unwrap_err(),
        adapters.prepared("third").unwrap_err(),
        adapters.get("third").unwrap_err(),
        adapters.row_adapters(&[Some("first"), Some("third")]).unwrap_err(),
        adapters.save("third", folder.path(), "base").unwrap_err(),
    ];
    for error in unknown {
        let expected = "no adapter is called `third`; there are `first`, `second`";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn more_adapted_layers_than_model_layers_is_an_error() {
    for_each_base(|case, llama| {
        let layers = llama.config().n_layers;
        let config = AdapterConfig::from(prompt_config(4, AdaptedLayers::Last(layers + 1)));
        let error = config.init(llama, 0, &llama.device()).unwrap_err();
        assert!(matches!(error, Error::TooManyLayers { .. }), "{case}: {error}");
        let config = AdapterConfig::from(prompt_config(4, AdaptedLayers::Chosen(vec![0, layers])));
        let error = config.init(llama, 0, &llama.device()).unwrap_err();
        assert!(matches!(error, Error::NoSuchLayer { .. }), "{case}: {error}");
    });
}

#[test]
fn adapters_of_different_shapes_coexist() {
    for_each_base_and_device(|case, llama| {
        let device = llama.device();
        let shapes = [
            (1, AdaptedLayers::Last(1)),
            (3, AdaptedLayers::Chosen(vec![0])),
            (9, AdaptedLayers::Last(3)),
        ];
        let alone = shapes.iter().zip(1..).map(|((len, layers), seed)| {
            let adapter = perturbed(prompt_config(*len, layers.clone()), llama, seed, &device);
            (fixed_logits(llama, &adapter.prepare(llama)), adapter)
        });
        let alone = alone.collect::<Vec<(TensorData, AdapterWeights)>>();
        let mut adapters = AdapterSet::new(llama);
        for (name, (_, adapter)) in ["a", "b", "c"].into_iter().zip(&alone) {
            adapters.add(name, adapter.clone()).unwrap();
        }
        for (name, (expected, _)) in ["a", "b", "c"].into_iter().zip(&alone) {
            adapters.activate(name).unwrap();
            assert_eq!(fixed_logits(llama, &adapters.active_or_base()), *expected, "{case} {name}");
        }
    });
}

#[test]
fn heads_wider_than_the_model_and_biased_outputs_keep_a_zero_gate_the_base() {
    // PEFT crashes on the first and adds the output projection's bias twice on the second.
    for device in testing::devices() {
        for case in ["llama-headdim16", "llama-bias"] {
            let llama = open_base(case, &device);
            let fresh = AdapterConfig::from(config()).init(&llama, 1, &device).unwrap();
            let adapted = fixed_logits(&llama, &fresh.prepare(&llama));
            assert_eq!(adapted, fixed_logits(&llama, &NoAdapter), "{case}");
        }
    }
}
