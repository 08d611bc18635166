//! Batches with an adapter for each row: every row equals a batch of this row alone.

use adaption_prompt::{
    AdapterMix, AdapterSet, AdapterWeights, MixComponent, PreparedAdapter, RowAdapters,
};
use llama::{Adapter, GenerationConfig, KvCache, Llama, NoAdapter, generate};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use testing::assert_close;

use crate::fixtures::{
    adapter_configs, fixed_logits, for_each_base_and_device, logits, max_abs_diff,
    perturbed_adapters,
};
use crate::golden_models::open_base;

/// Grouped-query attention with a tied head, biases, another head width, a sliding window.
const BASES: [&str; 4] = ["llama-gqa-tied", "llama-bias", "llama-headdim16", "mistral-sw8"];

/// One adapter of each method, and a mix of three.
fn prepared(llama: &Llama) -> Vec<PreparedAdapter> {
    let zoo = perturbed_adapters(llama);
    let part = |weight, (name, adapter): &(&str, AdapterWeights)| MixComponent {
        name: (*name).into(),
        weight,
        adapter: adapter.clone(),
    };
    let parts = vec![part(0.6, &zoo[2]), part(-0.4, &zoo[5]), part(0.8, zoo.last().unwrap())];
    let mix = AdapterMix { components: parts }.prepare(llama);
    zoo.iter().map(|(_, adapter)| adapter.prepare(llama)).chain([mix]).collect()
}

/// A row: its adapter and its tokens.
type Row = (Option<usize>, Vec<u32>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let adapter = proptest::option::weighted(0.8, 0..adapter_configs().len() + 1);
    let tokens = prop::collection::vec(1..128_u32, 1..9);
    prop::collection::vec((adapter, tokens), 1..6)
}

/// Runs a check for random batches on every device and base.
fn for_random_batches(cases: u32, check: impl Fn(&Llama, &[PreparedAdapter], &[Row])) {
    for device in testing::devices() {
        for case in BASES {
            let llama = open_base(case, &device);
            let prepared = prepared(&llama);
            let config =
                ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
            // The same batches in every run.
            let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
            TestRunner::new_with_rng(config, rng)
                .run(&rows(), |rows| {
                    check(&llama, &prepared, &rows);
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    }
}

fn adapter_or_base(adapter: Option<usize>, prepared: &[PreparedAdapter]) -> &dyn Adapter {
    adapter.map_or(&NoAdapter, |index| &prepared[index])
}

fn row_adapters(rows: &[Row], prepared: &[PreparedAdapter]) -> RowAdapters {
    RowAdapters::new(&rows.iter().map(|(own, _)| own.map(|own| &prepared[own])).collect::<Vec<_>>())
}

#[test]
fn padded_row_logits_equal_single_row_logits() {
    for_random_batches(12, |llama, prepared, rows| {
        let adapters = row_adapters(rows, prepared);
        let width = rows.iter().map(|(_, tokens)| tokens.len()).max().unwrap();
        let padding = rows.iter().map(|(_, tokens)| width - tokens.len()).collect::<Vec<_>>();
        let padded = rows
            .iter()
            .zip(&padding)
            .map(|((_, tokens), &padding)| [vec![0; padding], tokens.clone()].concat());
        let tokens = llama.tokens(&padded.collect::<Vec<_>>()).unwrap();
        let device = llama.device();
        let mut state = KvCache::new(llama.config(), padding.clone(), width, &device).unwrap();
        let hidden = llama.forward(tokens, Some(&mut state), &adapters).unwrap();
        let found = llama.logits(hidden, &adapters);
        for (row, ((own, tokens), padding)) in rows.iter().zip(padding).enumerate() {
            let alone =
                logits(llama, std::slice::from_ref(tokens), adapter_or_base(*own, prepared));
            let row = found.clone().narrow(0, row, 1).narrow(1, padding, tokens.len());
            assert_close(&format!("adapter {own:?}"), row, alone, 2e-5);
        }
    });
}

#[test]
fn batched_generation_equals_single_rows() {
    let config = GenerationConfig { max_new_tokens: 5, ..Default::default() };
    for_random_batches(5, |llama, prepared, rows| {
        let adapters = row_adapters(rows, prepared);
        let prompts = rows.iter().map(|(_, tokens)| tokens.clone()).collect::<Vec<_>>();
        let found = generate(llama, &adapters, &prompts, &config).unwrap();
        for ((own, tokens), found) in rows.iter().zip(found) {
            let prompt = std::slice::from_ref(tokens);
            let alone = generate(llama, adapter_or_base(*own, prepared), prompt, &config).unwrap();
            assert_eq!(found.tokens, alone[0].tokens, "adapter {own:?}");
        }
    });
}

#[test]
fn rows_sharing_an_adapter_equal_the_adapter() {
    for_each_base_and_device(|case, llama| {
        for ((name, _), adapter) in adapter_configs().iter().zip(prepared(llama)) {
            let shared = RowAdapters::new(&[Some(&adapter), Some(&adapter)]);
            let (found, alone) = (fixed_logits(llama, &shared), fixed_logits(llama, &adapter));
            assert!(max_abs_diff(&found, &alone) < 2e-5, "{case} {name}");
        }
        let none = RowAdapters::new(&[None, None]);
        assert_eq!(fixed_logits(llama, &none), fixed_logits(llama, &NoAdapter), "{case}");
    });
}

#[test]
fn a_row_does_not_depend_on_the_adapters_of_the_others() {
    for device in testing::devices() {
        for case in BASES {
            let llama = open_base(case, &device);
            let prepared = prepared(&llama);
            let texts = (0..5).map(|row| vec![3 + row, 14, 15, 92, 65, 35]).collect::<Vec<_>>();
            let first_row = |adapters: &[Option<&PreparedAdapter>]| {
                let (adapters, padding) = (RowAdapters::new(adapters), vec![0; adapters.len()]);
                let mut cache = KvCache::new(llama.config(), padding, 8, &device).unwrap();
                let tokens = llama.tokens(&texts).unwrap();
                let hidden = llama.forward(tokens, Some(&mut cache), &adapters).unwrap();
                llama.logits(hidden, &adapters).narrow(0, 0, 1).into_data()
            };
            for (index, own) in prepared.iter().enumerate() {
                let own = Some(own);
                let alone = first_row(&[own, None, None, None, None]);
                let other = |offset: usize| Some(&prepared[(index + offset) % prepared.len()]);
                for others in [[own, None, own, None], [other(1), other(3), own, other(7)]] {
                    let found = first_row(&[&[own], &others[..]].concat());
                    assert_eq!(found, alone, "{device:?}, {case}, adapter {index}");
                }
            }
        }
    }
}

#[test]
fn inactive_and_disabled_adapters_serve_rows() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let mut adapters = AdapterSet::new(&llama);
    for (name, adapter) in perturbed_adapters(&llama) {
        adapters.add(name, adapter).unwrap();
    }
    adapters.disable();
    let rows = adapters.row_adapters(&[Some("lit"), None]).unwrap();
    let tokens = [vec![1, 2, 3], vec![4, 5, 6]];
    let found = logits(&llama, &tokens, &rows);
    let lit = logits(&llama, &tokens[..1], adapters.prepared("lit").unwrap());
    let base = logits(&llama, &tokens[1..], &NoAdapter);
    assert_close("lit", found.clone().narrow(0, 0, 1), lit, 2e-5);
    assert_close("base", found.narrow(0, 1, 1), base, 2e-5);
}

#[test]
#[should_panic(expected = "batch size does not match the row adapters")]
fn wrong_batch_size_panics() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let adapter = &prepared(&llama)[0];
    fixed_logits(&llama, &RowAdapters::new(&[Some(adapter)]));
}

#[test]
#[should_panic(expected = "batch size does not match the row adapters")]
fn wrong_batch_size_panics_without_prompts() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let (name, lora) = &perturbed_adapters(&llama)[8];
    assert_eq!(*name, "lora");
    fixed_logits(&llama, &RowAdapters::new(&[Some(&lora.prepare(&llama)), None, None]));
}
