//! Folders with modified tensors and settings: they are refused, or usable.

use std::collections::BTreeMap;
use std::path::Path;

use adaption_prompt::files::{SETTINGS_FILE, peft};
use adaption_prompt::{AdapterSummary, AdapterWeights, AnyAdapter};
use llama::Llama;
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::fixtures::{fixed_logits, perturbed_adapters};
use crate::golden_models::open_base;

/// A modification of a tensor.
#[derive(Debug, Clone)]
enum TensorChange {
    Kept,
    Dropped,
    Shaped(Vec<usize>),
    Renamed(&'static str),
}

fn tensor_change() -> impl Strategy<Value = TensorChange> {
    let size = prop_oneof![Just(0), Just(1), Just(3), Just(4), Just(32), Just(48), 0..40_usize];
    prop_oneof![
        20 => Just(TensorChange::Kept),
        1 => Just(TensorChange::Dropped),
        1 => prop::collection::vec(size, 0..4).prop_map(TensorChange::Shaped),
        1 => prop::sample::select(vec![
            "base_model.model.model.layers.3.self_attn.adaption_gate",
            "base_model.model.model.layers.3.input_layernorm.weight",
            "base_model.model.model.layers.1.input_layernorm.bias",
            "base_model.model.model.layers.99999999999999999999.mlp.up_proj.adapter_bias",
            "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight",
            "base_model.model.model.norm.bias",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.transformer.h.1.attn.adaption_prompt",
            "",
        ])
        .prop_map(TensorChange::Renamed),
    ]
}

/// A setting of one of the two JSON files, and its new value.
fn setting() -> impl Strategy<Value = (&'static str, Value)> {
    let paths = vec![
        "/lora/rank",
        "/lora/alpha",
        "/v2/scale",
        "/v2",
        "/prompts",
        "/prompts/gate",
        "/base",
        "/base/fingerprint",
        "/prompts/activation",
        "/format",
        "/r",
        "/adapter_len",
        "/adapter_layers",
        "/peft_type",
        "/lora_alpha",
    ];
    let values = vec![
        json!(null),
        json!(0),
        json!(1),
        json!(3),
        json!(5),
        json!(-1),
        json!(1e300),
        json!("none"),
        json!("input"),
        json!("output"),
        json!("scalar"),
        json!("head"),
        json!("tanh"),
        json!({}),
        json!([]),
        json!("LORA"),
        json!("ADAPTION_PROMPT"),
        json!(u64::MAX),
    ];
    (prop::sample::select(paths), prop::sample::select(values))
}

fn change_tensors(path: &Path, fates: &[TensorChange]) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = BTreeMap::new();
    for ((name, view), fate) in file.iter().zip(fates.iter().cycle()) {
        let (mut name, mut shape) = (name.to_owned(), view.shape().to_vec());
        match fate {
            TensorChange::Kept => {}
            TensorChange::Dropped => continue,
            TensorChange::Shaped(other) => shape.clone_from(other),
            TensorChange::Renamed(other) => name = (*other).into(),
        }
        let count = shape.iter().product::<usize>();
        let numbers = view.data().iter().copied().cycle().take(4 * count).collect::<Vec<_>>();
        tensors.insert(name, (shape, numbers));
    }
    let views = tensors.iter().map(|(name, (shape, numbers))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), numbers).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn change_setting(path: &Path, place: &str, value: &Value) {
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    if let Some(slot) = json.pointer_mut(place) {
        *slot = value.clone();
        std::fs::write(path, json.to_string()).unwrap();
    }
}

/// Loads the folder in every way. Returns whether an adapter was loaded, which is then used.
fn load_and_use(folder: &Path, llama: &Llama) -> bool {
    drop(AdapterSummary::read(folder));
    drop(AdapterWeights::load(folder, llama, &llama.device()));
    let Ok(adapter) = AnyAdapter::load_unchecked(folder, llama, &llama.device()) else {
        return false;
    };
    fixed_logits(llama, &adapter.prepare(llama));
    let copy = tempfile::tempdir().unwrap();
    adapter.save(copy.path(), llama, "base").unwrap();
    AnyAdapter::load(copy.path(), llama, &llama.device()).unwrap();
    true
}

#[test]
fn modified_folder_is_refused_or_usable() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let zoo = perturbed_adapters(&llama);
    let config =
        ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let worked = std::cell::Cell::new(0);
    let fates = prop::collection::vec(tensor_change(), 1..12);
    let strategy = (0..zoo.len(), fates, prop::option::of(setting()), any::<bool>());
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(index, fates, setting, bare)| {
            let folder = tempfile::tempdir().unwrap();
            zoo[index].1.save(folder.path(), &llama, "base").unwrap();
            change_tensors(&folder.path().join(peft::TENSORS_FILE), &fates);
            if let Some((place, value)) = &setting {
                for file in [peft::CONFIG_FILE, SETTINGS_FILE] {
                    change_setting(&folder.path().join(file), place, value);
                }
            }
            // A folder of another program has no such file.
            if bare {
                std::fs::remove_file(folder.path().join(SETTINGS_FILE)).unwrap();
            }
            worked.set(worked.get() + i32::from(load_and_use(folder.path(), &llama)));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // Neither all folders are refused nor all accepted.
    assert!((20..380).contains(&worked.get()), "{} of 400 worked", worked.get());
}

/// The error of loading the fixture `name` after `change` modified its folder.
fn refused(name: &str, change: impl FnOnce(&Path)) -> String {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let zoo = perturbed_adapters(&llama);
    let (_, adapter) = zoo.iter().find(|(own, _)| *own == name).unwrap();
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &llama, "base").unwrap();
    change(folder.path());
    AnyAdapter::load_unchecked(folder.path(), &llama, &llama.device()).unwrap_err().to_string()
}

fn write_tensors(folder: &Path, tensors: &[(&str, Vec<usize>)]) {
    let tensors = tensors
        .iter()
        .map(|(name, shape)| (*name, shape.clone(), vec![0; 4 * shape.iter().product::<usize>()]));
    let tensors = tensors.collect::<Vec<_>>();
    let views = tensors.iter().map(|(name, shape, numbers)| {
        (*name, TensorView::new(Dtype::F32, shape.clone(), numbers).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join(peft::TENSORS_FILE), bytes).unwrap();
}

#[test]
fn a_rank_of_zero_is_refused() {
    let at = "base_model.model.model.layers.1.self_attn.q_proj";
    let error = refused("lora", |folder| {
        let (a, b) = (format!("{at}.lora_A.weight"), format!("{at}.lora_B.weight"));
        write_tensors(folder, &[(&a, vec![0, 32]), (&b, vec![32, 0])]);
        change_setting(&folder.join(SETTINGS_FILE), "/lora/rank", &json!(0));
    });
    assert!(error.contains("rank 0"), "{error}");
}

#[test]
fn a_part_without_tensors_is_refused() {
    for name in ["scalar", "v2", "lora"] {
        let error = refused(name, |folder| write_tensors(folder, &[]));
        assert!(error.contains("no ") || error.contains("found 0"), "{name}: {error}");
    }
}

#[test]
fn norm_of_a_wrong_shape_is_refused() {
    let at = "base_model.model.model.layers";
    for (tensors, expected) in [
        (
            vec![
                (format!("{at}.1.input_layernorm.weight"), 32),
                (format!("{at}.1.input_layernorm.bias"), 5),
            ],
            "found [5]",
        ),
        (vec![(format!("{at}.3.input_layernorm.weight"), 32)], "the model has no"),
    ] {
        let error = refused("v2", |folder| {
            let tensors = tensors.iter().map(|(name, len)| (name.as_str(), vec![*len]));
            write_tensors(folder, &tensors.collect::<Vec<_>>());
        });
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn unexpected_and_missing_scales_are_refused() {
    let error = refused("v2", |folder| {
        change_setting(&folder.join(SETTINGS_FILE), "/v2/scale", &json!("none"));
    });
    assert!(error.contains("scale of Query in layer 0: expected none"), "{error}");
    let error = refused("v2", |folder| {
        let at = "base_model.model.model.layers.1.self_attn.q_proj";
        write_tensors(folder, &[(&format!("{at}.adapter_bias"), vec![32])]);
    });
    assert!(error.contains("scale of Query in layer 1: expected [32], found none"), "{error}");
}
