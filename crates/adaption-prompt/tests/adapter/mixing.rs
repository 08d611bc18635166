//! Mixes: what several adapters add is added.

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterWeights, AnyAdapter, BaseInfo, Error,
    LoraConfig, MixComponent, V2Config,
};
use burn::tensor::{Distribution, Tensor, activation::softmax};
use llama::model::NormName;
use llama::{Adapter, LinearName, Llama, NoAdapter};
use testing::assert_close;

use crate::tiny::open_base;
use crate::zoo::{
    answer, branch, distance, everywhere, for_each_base, kinds, logits, opened, plain, zoo,
};

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
fn a_mix_of_one_with_weight_one_is_that_adapter() {
    everywhere(|case, llama| {
        for (name, adapter) in zoo(llama) {
            let alone = answer(llama, &adapter.prepare(llama));
            let mixed = answer(llama, &mix(&[(1.0, &adapter)]).prepare(llama));
            assert_eq!(mixed, alone, "{case} {name}");
        }
    });
}

#[test]
fn weights_of_zero_are_the_base() {
    everywhere(|case, llama| {
        let base = logits(llama, &[vec![3, 1, 4, 1, 5]], &NoAdapter);
        let zoo = zoo(llama);
        let parts = zoo.iter().map(|(_, adapter)| (0.0, adapter)).collect::<Vec<_>>();
        let mixed = logits(llama, &[vec![3, 1, 4, 1, 5]], &mix(&parts).prepare(llama));
        assert_eq!(mixed.into_data(), base.into_data(), "{case}");
    });
}

#[test]
fn an_adapter_and_its_opposite_are_the_base() {
    for_each_base(|case, llama| {
        let rows = [vec![3, 1, 4, 1, 5]];
        let base = logits(llama, &rows, &NoAdapter);
        for (name, adapter) in zoo(llama) {
            let mixed = mix(&[(0.7, &adapter), (-0.7, &adapter)]).prepare(llama);
            // Unlike an adapter with half its numbers, a mix adds what each part does.
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
fn halves_of_an_adapter_make_it_whole_in_any_order() {
    for_each_base(|case, llama| {
        let rows = [vec![3, 1, 4, 1, 5]];
        let zoo = zoo(llama);
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

/// `softmax(q (Wk p)ᵀ / √d) (Wv p)` times the gate, from the weights alone, head by head.
fn branch_by_hand(
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
        // Without biases, which `branch_by_hand` leaves out.
        for case in ["llama-mha", "llama-gqa-tied", "llama-headdim16"] {
            let llama = open_base(case, &device);
            let adapters = [(5, AdaptedLayers::Last(2)), (2, AdaptedLayers::Chosen(vec![0, 2]))]
                .map(|(len, layers)| opened(plain(len, layers), &llama, len as u64, &device));
            let mixed = mix(&[(0.6, &adapters[0]), (-1.5, &adapters[1])]).prepare(&llama);
            let config = llama.config();
            let query = normal([2, config.n_heads, 3, config.head_dim], &llama);
            let by_hand =
                |part: usize, layer: usize| branch_by_hand(&llama, &adapters[part], layer, &query);
            let expected = [
                by_hand(1, 0) * -1.5,
                by_hand(0, 1) * 0.6,
                by_hand(0, 2) * 0.6 + by_hand(1, 2) * -1.5,
            ];
            for (layer, expected) in expected.into_iter().enumerate() {
                let found = branch(&mixed, layer, &query);
                assert_close(&format!("{case} layer {layer}"), found, expected, 1e-4);
            }
        }
    }
}

#[test]
fn changes_of_a_linear_layer_and_a_norm_are_weighted_and_added() {
    for device in testing::devices() {
        let llama = open_base("llama-bias", &device);
        let v2 = opened(V2Config::paper(), &llama, 1, &device);
        let on_input = opened(V2Config::input_scale(), &llama, 2, &device);
        let lora =
            opened(LoraConfig { rank: 3, alpha: 5.0, ..Default::default() }, &llama, 3, &device);
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
fn parts_of_one_adapter_and_of_a_mix_differ_only_where_they_meet() {
    // Prompts alone beside LoRA on the queries: nothing meets, the mix is both at once.
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let lora = LoraConfig { linears: vec![LinearName::Query], ..Default::default() };
        let prompts = plain(4, AdaptedLayers::Last(2));
        let both = AdapterConfig { lora: Some(lora), ..prompts.into() };
        let both = opened(both, &llama, 1, &device);
        let AdapterWeights { prompts, lora, .. } = both.clone();
        let prompts = AdapterWeights { prompts, v2: None, lora: None, image: None };
        let lora = AdapterWeights { prompts: None, v2: None, lora, image: None };
        let mixed = mix(&[(1.0, &prompts), (1.0, &lora)]);
        let rows = [vec![3, 1, 4, 1, 5]];
        let expected = logits(&llama, &rows, &both.prepare(&llama));
        assert_close("both", logits(&llama, &rows, &mixed.prepare(&llama)), expected, 1e-5);
    }
}

#[test]
fn a_mix_is_saved_and_loaded_whole() {
    for_each_base(|case, llama| {
        let zoo = zoo(llama);
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
        let before = answer(llama, &saved.prepare(llama));
        assert_eq!(answer(llama, &loaded.prepare(llama)), before, "{case}");
        assert!(distance(&before, &answer(llama, &NoAdapter)) > 0.02);
        // A part is an adapter of its own; a mix is no single adapter.
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
    let adapter = opened(plain(3, AdaptedLayers::Last(2)), &own, 1, &device);
    AnyAdapter::from(mix(&[(1.0, &adapter)])).save(folder.path(), &own, "base").unwrap();
    let error = AnyAdapter::load(folder.path(), &alike, &device).unwrap_err();
    assert!(matches!(error, Error::BaseMismatch { .. }), "{error}");
    assert!(AnyAdapter::load_unchecked(folder.path(), &alike, &device).is_ok());
}

#[test]
fn a_part_whose_name_is_no_folders_is_refused() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = opened(plain(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
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
fn mixes_of_every_pair_of_kinds_are_finite() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let zoo = zoo(&llama);
    assert_eq!(zoo.len(), kinds().len());
    let base = answer(&llama, &NoAdapter);
    for (a, first) in &zoo {
        for (b, second) in &zoo {
            let found = answer(&llama, &mix(&[(0.5, first), (0.5, second)]).prepare(&llama));
            assert!(found.iter::<f32>().all(f32::is_finite), "{a} {b}");
            assert!(distance(&found, &base) > 0.01, "{a} {b}");
        }
    }
}

#[test]
fn a_mix_that_no_folder_can_hold_is_refused() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = opened(plain(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
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
fn a_mix_saved_over_an_adapter_leaves_nothing_that_pefts_own_code_would_read() {
    let llama = open_base("llama-mha", &testing::flex());
    let adapter = opened(plain(3, AdaptedLayers::Last(2)), &llama, 1, &llama.device());
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &llama, "base").unwrap();
    let mixed = AnyAdapter::from(mix(&[(0.5, &adapter)]));
    mixed.save(folder.path(), &llama, "base").unwrap();
    assert!(!folder.path().join("adapter_config.json").exists());
    assert!(!folder.path().join("adapter_model.safetensors").exists());
    let loaded = AnyAdapter::load(folder.path(), &llama, &llama.device()).unwrap();
    let expected = answer(&llama, &mixed.prepare(&llama));
    assert_eq!(answer(&llama, &loaded.prepare(&llama)), expected);
    // And the other way round.
    adapter.save(folder.path(), &llama, "base").unwrap();
    let loaded = AdapterWeights::load(folder.path(), &llama, &llama.device()).unwrap();
    let expected = answer(&llama, &adapter.prepare(&llama));
    assert_eq!(answer(&llama, &loaded.prepare(&llama)), expected);
}
