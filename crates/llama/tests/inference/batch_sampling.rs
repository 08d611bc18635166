//! Choosing on a device: what the host would choose, one read-back a token, and a small one.

use burn::tensor::{Device, Tensor, TensorData};
use llama::read_back::{read_back_bytes, read_back_count};
use llama::sampling::{BatchSampler, Sampler};
use llama::{Error, GenerationConfig, Generator, NoAdapter, Request, SamplingConfig, StepOutput};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::tiny;

/// More than is read of a row; not a whole number of chunks.
const VOCAB: usize = 10_001;

fn greedy() -> SamplingConfig {
    SamplingConfig::default()
}

fn drawing() -> SamplingConfig {
    SamplingConfig { temperature: 0.8, seed: 3, ..greedy() }
}

fn samplers(configs: &[SamplingConfig]) -> Vec<Sampler> {
    let sampler = |(stream, config): (u64, &SamplingConfig)| Sampler::new(config.clone(), stream);
    (0..).zip(configs).map(|row| sampler(row).unwrap()).collect()
}

fn put(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
    Tensor::from_data(data, device)
}

/// Scores as a model gives them, a few far above the rest; some equal, some impossible.
fn logits(seed: u64, vocab: usize, ties: bool) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let score = |_| {
        let score = (rng.random::<f32>() * 8.0).powi(2) / 4.0 - 4.0;
        if rng.random::<f32>() < 0.1 {
            f32::NEG_INFINITY
        } else if ties {
            score.round()
        } else {
            score
        }
    };
    (0..vocab).map(score).collect()
}

/// Lets the chooser and the samplers go on side by side.
fn compare(configs: &[SamplingConfig], vocab: usize, seed: u64, ties: bool, device: &Device) {
    let mut alone = samplers(configs);
    let prompt = [1, 5, 7, 8000, 99_999].map(|token| token % (vocab as u32 + 2));
    for own in &mut alone {
        own.observe(&prompt);
    }
    let mut chooser = BatchSampler::new(alone.clone(), vocab, device);
    for step in 0..4 {
        let rows = (0..configs.len() as u64).map(|row| logits(seed + 10 * step + row, vocab, ties));
        let rows = rows.collect::<Vec<_>>();
        // The last row ends after two steps.
        let wanted = (0..configs.len()).map(|row| step < 2 || row + 1 < configs.len() || row == 0);
        let wanted = wanted.collect::<Vec<_>>();
        let found = chooser.sample(put(&rows, device), &wanted).unwrap();
        for row in (0..configs.len()).filter(|row| wanted[*row]) {
            let expected = alone[row].sample(&rows[row]).unwrap();
            let config = &configs[row];
            assert_eq!(
                found[row], expected,
                "row {row} of {vocab} tokens, step {step}: {config:?}"
            );
        }
    }
}

fn any_config() -> impl Strategy<Value = SamplingConfig> {
    (
        prop_oneof![Just(0.0_f32), Just(1.0), 0.2_f32..2.0],
        prop_oneof![Just(1.0_f32), 0.01_f32..1.0],
        prop_oneof![Just(0_usize), 1_usize..60, 60_usize..70, 70_usize..11_000],
        prop_oneof![Just(1.0_f32), 0.5_f32..2.0],
        any::<u64>(),
    )
        .prop_map(|(temperature, top_p, top_k, repetition_penalty, seed)| SamplingConfig {
            temperature,
            top_p,
            top_k,
            repetition_penalty,
            seed,
        })
}

#[test]
fn a_device_chooses_what_the_host_chooses() {
    for device in testing::devices() {
        let cases = Config { cases: 48, failure_persistence: None, ..Config::default() };
        let configs = prop::collection::vec(any_config(), 1..4);
        let vocab = prop_oneof![Just(VOCAB), Just(1), 2_usize..9000, Just(32 * 65), Just(32 * 260)];
        let case = (configs, vocab, any::<u32>(), any::<bool>());
        // Always the same cases: sums in f32 on a device and in f64 here may part a draw that falls
        // right between two tokens.
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        TestRunner::new_with_rng(cases, rng)
            .run(&case, |(configs, vocab, seed, ties)| {
                compare(&configs, vocab, u64::from(seed), ties, &device);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn of_equal_scores_the_first_is_the_best() {
    for device in testing::devices() {
        for (vocab, at) in [(3, 1), (VOCAB, 70), (VOCAB, 8998), (128_256, 100_001)] {
            let mut scores = vec![-1.0; vocab];
            scores[at..].fill(2.0);
            let mut chooser = BatchSampler::new(samplers(&[greedy()]), vocab, &device);
            let found = chooser.sample(put(&[scores], &device), &[true]).unwrap();
            assert_eq!(found, [at as u32]);
        }
    }
}

#[test]
fn scores_of_minus_infinity_alone_choose_a_token_all_the_same() {
    for device in testing::devices() {
        let configs = [greedy(), drawing(), SamplingConfig { top_k: 4, ..drawing() }];
        let rows = vec![vec![f32::NEG_INFINITY; VOCAB]; 3];
        let mut alone = samplers(&configs);
        let mut chooser = BatchSampler::new(alone.clone(), VOCAB, &device);
        let found = chooser.sample(put(&rows, &device), &[true; 3]).unwrap();
        let expected = alone.iter_mut().zip(&rows).map(|(own, row)| own.sample(row).unwrap());
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_broken_models_logits_are_refused_in_rows_that_are_wanted() {
    for device in testing::devices() {
        for config in [greedy(), drawing(), SamplingConfig { top_k: 4, ..drawing() }] {
            for broken in [f32::NAN, f32::INFINITY] {
                let mut rows = vec![logits(1, VOCAB, false), logits(2, VOCAB, false)];
                rows[1][4321] = broken;
                let configs = [config.clone(), config.clone()];
                let chooser = || BatchSampler::new(samplers(&configs), VOCAB, &device);
                assert!(chooser().sample(put(&rows, &device), &[true, false]).is_ok());
                let error = chooser().sample(put(&rows, &device), &[true, true]).unwrap_err();
                let Error::NonFiniteLogits { found } = error else { panic!("{error}") };
                assert!(found.is_nan() == broken.is_nan(), "{found}");
            }
        }
    }
}

/// Settings of every kind.
fn mixed() -> [SamplingConfig; 5] {
    [
        greedy(),
        SamplingConfig { top_k: 40, top_p: 0.95, ..drawing() },
        SamplingConfig { top_p: 0.9, repetition_penalty: 1.3, ..drawing() },
        SamplingConfig { repetition_penalty: 1.1, ..greedy() },
        drawing(),
    ]
}

#[test]
fn a_token_costs_one_read_back_of_a_few_numbers() {
    for device in testing::devices() {
        // As sharp as a model's, so that a part of the likeliest tokens reaches `top_p`.
        let rows = (0..5).map(|row| logits(row, 49_152, false)).collect::<Vec<_>>();
        let tensor = put(&rows, &device) * 100.0;
        let mut chooser = BatchSampler::new(samplers(&mixed()), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        chooser.sample(tensor.clone(), &[true; 5]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        let drawing = read_back_bytes() - before.1;
        assert!(drawing <= 5 * 4 * 9000, "{drawing} bytes");

        let top_k = SamplingConfig { top_k: 40, top_p: 0.95, ..self::drawing() };
        let mut chooser = BatchSampler::new(samplers(&[greedy(), top_k]), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        chooser.sample(tensor.clone().narrow(0, 0, 2), &[true; 2]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        let drawing = read_back_bytes() - before.1;
        assert!(drawing <= 2 * 4 * 2200, "{drawing} bytes");

        let mut chooser = BatchSampler::new(samplers(&[greedy(), greedy()]), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        chooser.sample(tensor.narrow(0, 0, 2), &[true; 2]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        assert_eq!(read_back_bytes() - before.1, 2 * 4 * 2);
    }
}

#[test]
fn generating_waits_for_the_device_once_a_token() {
    for device in testing::devices() {
        let llama = tiny::model(tiny::config(), &device);
        for batch in [1, 3, 5] {
            let request = |(row, sampling): (usize, SamplingConfig)| Request {
                prompt: tiny::tokens(row as u64, 3 + row),
                config: GenerationConfig {
                    max_new_tokens: 4,
                    sampling,
                    ..GenerationConfig::default()
                },
            };
            let requests = mixed().into_iter().take(batch).enumerate().map(request).collect();
            let mut generator = Generator::from_requests(&llama, &NoAdapter, requests).unwrap();
            // The first of them is the pass over the prompts.
            for _token in 0..4 {
                let before = read_back_count();
                let steps = generator.next().unwrap().unwrap();
                assert!(steps.iter().all(|step| matches!(step, StepOutput::Token(_))));
                assert_eq!(read_back_count() - before, 1);
            }
            let before = read_back_count();
            generator.next().unwrap().unwrap();
            assert_eq!(read_back_count() - before, 0, "the end needs no pass");
        }
    }
}

#[test]
fn a_distribution_too_flat_for_what_was_read_costs_a_second_read_back() {
    for device in testing::devices() {
        let config = SamplingConfig { top_p: 0.9, ..drawing() };
        let flat = (0..VOCAB).map(|token| (token % 97) as f32 * 1e-3).collect::<Vec<_>>();
        let mut alone = samplers(&[greedy(), config]);
        let mut chooser = BatchSampler::new(alone.clone(), VOCAB, &device);
        let before = read_back_count();
        let rows = [flat.clone(), flat.clone()];
        let found = chooser.sample(put(&rows, &device), &[true, true]).unwrap();
        assert_eq!(read_back_count() - before, 2);
        let expected = alone.iter_mut().map(|own| own.sample(&flat).unwrap());
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}
