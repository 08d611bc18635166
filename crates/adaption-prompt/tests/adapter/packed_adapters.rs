//! Packed passes of sequences with adapters of their own: every row equals that of its sequence alone, bit for
//! bit.

use std::ops::Range;

use adaption_prompt::{AnyAdapter, PackedAdapters, PreparedAdapter};
use burn::tensor::{Tensor, TensorData};
use llama::model::{Linear, Norm, NormName, PagedSequence};
use llama::{Adapter, BlockCache, LinearName, Llama, NoAdapter};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use testing::assert_close;

use crate::fixtures::{adapter_configs, logits, perturbed_adapters};
use crate::golden_models::open_base;
use crate::mixing::mix;

/// Rotary and learned positions, RMS and layer norms, with and without biases.
const BASES: [&str; 3] = ["llama-gqa-tied", "llama-bias", "gpt2"];

/// One adapter of each method, and a mix of three, of which one scales inputs.
fn prepared(llama: &Llama) -> Vec<PreparedAdapter> {
    let adapters = perturbed_adapters(llama);
    let part = |index: usize| &adapters[index].1;
    let mix = mix(&[(0.6, part(2)), (-0.4, part(5)), (0.8, part(9))]).prepare(llama);
    adapters.iter().map(|(_, adapter)| adapter.prepare(llama)).chain([mix]).collect()
}

/// The adapter of a sequence, and its number of rows.
type Sequence = (Option<usize>, usize);

fn sequences() -> impl Strategy<Value = Vec<Sequence>> {
    let adapter = proptest::option::weighted(0.8, 0..adapter_configs().len() + 1);
    prop::collection::vec((adapter, 1..7_usize), 1..8)
}

/// Runs a check for random passes on every base.
fn for_random_passes(check: impl Fn(&Llama, &[PreparedAdapter], &[Sequence])) {
    for case in BASES {
        let llama = open_base(case, &testing::flex());
        let prepared = prepared(&llama);
        let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
        // The same passes in every run.
        let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
        let run = |sequences: Vec<Sequence>| {
            check(&llama, &prepared, &sequences);
            Ok(())
        };
        let result = TestRunner::new_with_rng(config, rng).run(&sequences(), run);
        result.unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

fn packed(sequences: &[Sequence], prepared: &[PreparedAdapter]) -> PackedAdapters {
    let adapters = sequences.iter().map(|(own, rows)| (own.map(|own| &prepared[own]), *rows));
    PackedAdapters::new(&adapters.collect::<Vec<_>>())
}

fn adapter_or_base(adapter: Option<usize>, prepared: &[PreparedAdapter]) -> &dyn Adapter {
    adapter.map_or(&NoAdapter, |index| &prepared[index])
}

/// The rows of each sequence.
fn rows_of(sequences: &[Sequence]) -> Vec<Range<usize>> {
    let mut first = 0;
    let rows = sequences.iter().map(|(_, rows)| {
        let own = first..first + rows;
        first = own.end;
        own
    });
    rows.collect()
}

/// Every linear layer with its layer index, and the head.
fn linears(llama: &Llama) -> Vec<(usize, LinearName, Linear)> {
    let mut found = Vec::new();
    for (index, layer) in llama.layers.iter().enumerate() {
        let (attention, feed_forward) = (&layer.attention, &layer.feed_forward);
        found.push((index, LinearName::Query, attention.query.clone()));
        found.push((index, LinearName::Key, attention.key.clone()));
        found.push((index, LinearName::Value, attention.value.clone()));
        found.push((index, LinearName::Output, attention.output.clone()));
        found.push((index, LinearName::Up, feed_forward.up.clone()));
        found.push((index, LinearName::Down, feed_forward.down.clone()));
        found.extend(feed_forward.gate.clone().map(|gate| (index, LinearName::Gate, gate)));
    }
    found
}

fn norms(llama: &Llama) -> Vec<(usize, NormName, &Norm)> {
    let layers = 0..=llama.layers.len();
    let norms = |layer| llama.norms(layer).into_iter().map(move |(name, norm)| (layer, name, norm));
    layers.flat_map(norms).collect()
}

/// `[1, rows, width]`
fn hidden(rows: usize, width: usize) -> Tensor<3> {
    let value = |at: usize| ((at * 7919) % 1009) as f32 / 504.5 - 1.0;
    let values = (0..rows * width).map(value).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, [1, rows, width]), &testing::flex())
}

/// Logits of every token of some sequences, computed in one packed pass for each of the given cuts.
///
/// # Shapes
/// - each: `[1, tokens, vocab]`
pub fn paged_logits(
    llama: &Llama,
    sequences: &[(Option<&PreparedAdapter>, &[u32])],
    cuts: &[&dyn Fn(usize) -> Range<usize>],
) -> Vec<Tensor<3>> {
    let mut cache = BlockCache::new(llama.config(), sequences.len(), &llama.device());
    let mut logits = vec![Vec::new(); sequences.len()];
    for cut in cuts {
        let ranges = sequences.iter().map(|(_, tokens)| cut(tokens.len())).collect::<Vec<_>>();
        let present = (0..sequences.len()).filter(|&own| !ranges[own].is_empty());
        let present = present.collect::<Vec<_>>();
        if present.is_empty() {
            continue;
        }
        let blocks = present.iter().map(|&own| [own as u32]).collect::<Vec<_>>();
        let pass = present.iter().zip(&blocks).map(|(&own, blocks)| PagedSequence {
            tokens: &sequences[own].1[ranges[own].clone()],
            past: ranges[own].start,
            blocks,
        });
        let adapters = present.iter().map(|&own| (sequences[own].0, ranges[own].len()));
        let adapters = PackedAdapters::new(&adapters.collect::<Vec<_>>());
        let output = llama.forward_paged(&pass.collect::<Vec<_>>(), None, &mut cache, &adapters);
        let output = output.unwrap();
        for (index, &own) in present.iter().enumerate() {
            let tokens = (0..ranges[own].len()).map(|token| (index, token)).collect::<Vec<_>>();
            let selected = adapters.selecting(&vec![index; tokens.len()]);
            let hidden = llama.final_norm(output.select(&tokens), &selected);
            logits[own].push(llama.logits(hidden, &selected).swap_dims(0, 1));
        }
    }
    logits.into_iter().map(|parts| Tensor::cat(parts, 1)).collect()
}

#[test]
fn logits_of_packed_passes_equal_those_of_each_sequence_alone() {
    for_random_passes(|llama, prepared, sequences| {
        let tokens = |index: usize, len: usize| {
            (0..len).map(|at| (1 + (index * 31 + at * 17) % 120) as u32).collect::<Vec<_>>()
        };
        let texts = sequences.iter().enumerate().map(|(index, (_, len))| tokens(index, *len));
        let texts = texts.collect::<Vec<_>>();
        let adapters = sequences.iter().map(|(own, _)| own.map(|own| &prepared[own]));
        let rows = adapters.zip(&texts).map(|(own, text)| (own, &text[..])).collect::<Vec<_>>();
        // All but the last token of each sequence, then the last ones: prompts and decoded tokens.
        let found = paged_logits(llama, &rows, &[&|len| 0..len - 1, &|len| len - 1..len]);
        for (index, found) in found.into_iter().enumerate() {
            let (own, _) = sequences[index];
            let alone = paged_logits(llama, &rows[index..=index], &[&|len| 0..len]).remove(0);
            assert_eq!(found.clone().into_data(), alone.into_data(), "adapter {own:?}");
            let text = &texts[index..=index];
            let uncached = logits(llama, text, adapter_or_base(own, prepared));
            assert_close(&format!("adapter {own:?}"), found, uncached, 5e-5);
        }
    });
}

#[test]
fn linear_layers_of_a_packed_pass_equal_those_of_its_sequences() {
    for_random_passes(|llama, prepared, sequences| {
        let packed = packed(sequences, prepared);
        let rows = rows_of(sequences);
        for (layer, name, linear) in linears(llama) {
            let [_out, width] = linear.weight.dims();
            let input = hidden(rows.last().unwrap().end, width);
            let found = packed.linear(layer, name, &input, &linear);
            let found = found.unwrap_or_else(|| linear.forward(input.clone()));
            for ((own, _), rows) in sequences.iter().zip(&rows) {
                let input = input.clone().narrow(1, rows.start, rows.len());
                let adapter = adapter_or_base(*own, prepared);
                let alone = adapter.linear(layer, name, &input, &linear);
                let alone = alone.unwrap_or_else(|| linear.forward(input));
                let found = found.clone().narrow(1, rows.start, rows.len());
                assert_eq!(found.into_data(), alone.into_data(), "{name:?}, adapter {own:?}");
            }
        }
    });
}

#[test]
fn norms_of_a_packed_pass_equal_those_of_its_sequences() {
    for_random_passes(|llama, prepared, sequences| {
        let packed = packed(sequences, prepared);
        let rows = rows_of(sequences);
        let input = hidden(rows.last().unwrap().end, llama.config().d_model);
        for (layer, name, norm) in norms(llama) {
            let found = norm.forward(input.clone(), packed.norm(layer, name, norm));
            for ((own, _), rows) in sequences.iter().zip(&rows) {
                let input = input.clone().narrow(1, rows.start, rows.len());
                let adapter = adapter_or_base(*own, prepared);
                let alone = norm.forward(input, adapter.norm(layer, name, norm));
                let found = found.clone().narrow(1, rows.start, rows.len());
                assert_eq!(found.into_data(), alone.into_data(), "{name:?}, adapter {own:?}");
            }
        }
    });
}

#[test]
fn selected_rows_get_the_head_of_their_sequence() {
    for_random_passes(|llama, prepared, sequences| {
        // The last sequence first, and the first one twice.
        let picked = (0..sequences.len()).rev().chain([0]).collect::<Vec<_>>();
        let selected = packed(sequences, prepared).selecting(&picked);
        let d_model = llama.config().d_model;
        let rows = hidden(picked.len(), d_model).reshape([picked.len(), 1, d_model]);
        let found = llama.final_norm(rows.clone(), &selected);
        let found = llama.logits(found, &selected);
        for (row, &sequence) in picked.iter().enumerate() {
            let (own, _) = sequences[sequence];
            let adapter = adapter_or_base(own, prepared);
            let alone = llama.final_norm(rows.clone().narrow(0, row, 1), adapter);
            let alone = llama.logits(alone, adapter);
            let found = found.clone().narrow(0, row, 1);
            assert_eq!(found.into_data(), alone.into_data(), "row {row}, adapter {own:?}");
        }
    });
}

#[test]
fn packed_sequences_of_the_base_change_nothing() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let packed = PackedAdapters::new(&[(None, 3), (None, 1)]);
    for (layer, name, linear) in linears(&llama) {
        let [_out, width] = linear.weight.dims();
        assert!(packed.linear(layer, name, &hidden(4, width), &linear).is_none());
    }
    assert!(
        norms(&llama).iter().all(|&(layer, name, norm)| packed.norm(layer, name, norm).is_none())
    );
}

#[test]
#[should_panic(expected = "the rows are not those of the sequences")]
fn another_number_of_rows_panics() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let prepared = prepared(&llama);
    let packed = PackedAdapters::new(&[(prepared.last(), 3)]);
    let (layer, name, linear) = linears(&llama).remove(0);
    packed.linear(layer, name, &hidden(4, llama.config().d_model), &linear);
}

#[test]
fn a_prepared_adapter_counts_its_bytes() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    assert_eq!(PreparedAdapter::default().bytes(), 0);
    for (name, adapter) in perturbed_adapters(&llama) {
        let single = adapter.prepare(&llama).bytes();
        let modifiers = if adapter.prompts.is_some() { 0 } else { adapter.n_parameters() };
        assert!(single >= modifiers * size_of::<f32>(), "{name}: {single}");
        // LoRA is kept in two forms.
        if name == "lora" {
            assert!(single >= 2 * modifiers * size_of::<f32>(), "{name}: {single}");
        }
        let twice = AnyAdapter::from(mix(&[(0.5, &adapter), (0.5, &adapter)]));
        assert_eq!(twice.prepare(&llama).bytes(), 2 * single, "{name}");
    }
}
