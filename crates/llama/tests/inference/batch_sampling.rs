//! Sampling on a device: the same tokens as on the host, with one small read-back per token.

use burn::tensor::{Device, Tensor, TensorData};
use llama::read_back::{read_back_bytes, read_back_count};
use llama::sampling::{BatchSampler, Sampler};
use llama::{Error, GenerationConfig, Generator, NoAdapter, Request, SamplingConfig, StepOutput};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use testing::tiny_model;

/// More than the candidates of a row; not a whole number of chunks.
const VOCAB: usize = 10_001;

fn greedy() -> SamplingConfig {
    SamplingConfig::default()
}

fn stochastic() -> SamplingConfig {
    SamplingConfig { temperature: 0.8, seed: 3, ..greedy() }
}

fn samplers(configs: &[SamplingConfig]) -> Vec<Sampler> {
    let sampler = |(stream, config): (u64, &SamplingConfig)| Sampler::new(config.clone(), stream);
    (0..).zip(configs).map(|row| sampler(row).unwrap()).collect()
}

fn logits_tensor(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
    Tensor::from_data(data, device)
}

/// Logits like those of a model, a few far above the rest; some equal, some minus infinity.
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

/// Compares a batch sampler with host samplers over several steps.
fn compare(configs: &[SamplingConfig], vocab: usize, seed: u64, ties: bool, device: &Device) {
    let mut host_samplers = samplers(configs);
    let prompt = [1, 5, 7, 8000, 99_999].map(|token| token % (vocab as u32 + 2));
    for sampler in &mut host_samplers {
        sampler.observe(&prompt);
    }
    let mut batch_sampler = BatchSampler::new(host_samplers.clone(), vocab, device);
    for step in 0..4 {
        let rows = (0..configs.len() as u64).map(|row| logits(seed + 10 * step + row, vocab, ties));
        let rows = rows.collect::<Vec<_>>();
        // The last row ends after two steps.
        let active = (0..configs.len()).map(|row| step < 2 || row + 1 < configs.len() || row == 0);
        let active = active.collect::<Vec<_>>();
        let found = batch_sampler.sample(logits_tensor(&rows, device), &active).unwrap();
        for row in (0..configs.len()).filter(|row| active[*row]) {
            let expected = host_samplers[row].sample(&rows[row]).unwrap();
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
        prop_oneof![4 => Just(0.0_f32), 1 => 0.0_f32..1.0],
        prop_oneof![Just(1.0_f32), 0.5_f32..2.0],
        prop_oneof![8 => Just(0.0_f32), 1 => -2.0_f32..2.0],
        prop_oneof![8 => Just(0.0_f32), 1 => -2.0_f32..2.0],
        prop_oneof![8 => Just(Vec::new()), 1 => prop::collection::vec((0..9000_u32, -9.0_f32..9.0), 1..99)],
        any::<u64>(),
    )
        .prop_map(
            |(
                temperature,
                top_p,
                top_k,
                min_p,
                repetition_penalty,
                frequency_penalty,
                presence_penalty,
                logit_bias,
                seed,
            )| SamplingConfig {
                temperature,
                top_p,
                top_k,
                min_p,
                repetition_penalty,
                frequency_penalty,
                presence_penalty,
                logit_bias: logit_bias.into_iter().collect(),
                seed,
            },
        )
}

#[test]
fn device_sampling_matches_host_sampling() {
    for device in testing::devices() {
        let cases = Config { cases: 48, failure_persistence: None, ..Config::default() };
        let configs = prop::collection::vec(any_config(), 1..4);
        let vocab = prop_oneof![Just(VOCAB), Just(1), 2_usize..9000, Just(32 * 65), Just(32 * 260)];
        let case = (configs, vocab, any::<u32>(), any::<bool>());
        // A fixed seed: sums are f32 on the device and f64 on the host, so a random number at the boundary
        // of two tokens can give either.
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
fn argmax_takes_the_first_of_equal_scores() {
    for device in testing::devices() {
        for (vocab, at) in [(3, 1), (VOCAB, 70), (VOCAB, 8998), (128_256, 100_001)] {
            let mut scores = vec![-1.0; vocab];
            scores[at..].fill(2.0);
            let mut batch_sampler = BatchSampler::new(samplers(&[greedy()]), vocab, &device);
            let found = batch_sampler.sample(logits_tensor(&[scores], &device), &[true]).unwrap();
            assert_eq!(found, [at as u32]);
        }
    }
}

#[test]
fn all_minus_infinity_logits_still_give_a_token() {
    for device in testing::devices() {
        let configs = [greedy(), stochastic(), SamplingConfig { top_k: 4, ..stochastic() }];
        let rows = vec![vec![f32::NEG_INFINITY; VOCAB]; 3];
        let mut host_samplers = samplers(&configs);
        let mut batch_sampler = BatchSampler::new(host_samplers.clone(), VOCAB, &device);
        let found = batch_sampler.sample(logits_tensor(&rows, &device), &[true; 3]).unwrap();
        let expected =
            host_samplers.iter_mut().zip(&rows).map(|(sampler, row)| sampler.sample(row).unwrap());
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

#[test]
fn non_finite_logits_are_errors_in_active_rows() {
    for device in testing::devices() {
        for config in [greedy(), stochastic(), SamplingConfig { top_k: 4, ..stochastic() }] {
            for broken in [f32::NAN, f32::INFINITY] {
                let mut rows = vec![logits(1, VOCAB, false), logits(2, VOCAB, false)];
                rows[1][4321] = broken;
                let configs = [config.clone(), config.clone()];
                let batch_sampler = || BatchSampler::new(samplers(&configs), VOCAB, &device);
                assert!(
                    batch_sampler().sample(logits_tensor(&rows, &device), &[true, false]).is_ok()
                );
                let error = batch_sampler()
                    .sample(logits_tensor(&rows, &device), &[true, true])
                    .unwrap_err();
                let Error::NonFiniteLogits { found } = error else { panic!("{error}") };
                assert!(found.is_nan() == broken.is_nan(), "{found}");
            }
        }
    }
}

/// Sampling settings of every kind.
fn mixed() -> [SamplingConfig; 5] {
    [
        greedy(),
        SamplingConfig { top_k: 40, top_p: 0.95, ..stochastic() },
        SamplingConfig { top_p: 0.9, repetition_penalty: 1.3, ..stochastic() },
        SamplingConfig { repetition_penalty: 1.1, ..greedy() },
        stochastic(),
    ]
}

#[test]
fn one_small_read_back_per_token() {
    for device in testing::devices() {
        // As peaked as a model's, so that the candidates reach `top_p`.
        let rows = (0..5).map(|row| logits(row, 49_152, false)).collect::<Vec<_>>();
        let tensor = logits_tensor(&rows, &device) * 100.0;
        let mut batch_sampler = BatchSampler::new(samplers(&mixed()), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        batch_sampler.sample(tensor.clone(), &[true; 5]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        let bytes = read_back_bytes() - before.1;
        assert!(bytes <= 5 * 4 * 9000, "{bytes} bytes");

        let top_k = SamplingConfig { top_k: 40, top_p: 0.95, ..stochastic() };
        let mut batch_sampler = BatchSampler::new(samplers(&[greedy(), top_k]), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        batch_sampler.sample(tensor.clone().narrow(0, 0, 2), &[true; 2]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        let bytes = read_back_bytes() - before.1;
        assert!(bytes <= 2 * 4 * 2200, "{bytes} bytes");

        let mut batch_sampler = BatchSampler::new(samplers(&[greedy(), greedy()]), 49_152, &device);
        let before = (read_back_count(), read_back_bytes());
        batch_sampler.sample(tensor.narrow(0, 0, 2), &[true; 2]).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        assert_eq!(read_back_bytes() - before.1, 2 * 4 * 2);
    }
}

#[test]
fn generation_reads_back_once_per_token() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        for batch in [1, 3, 5] {
            let request = |(row, sampling): (usize, SamplingConfig)| Request {
                prompt: tiny_model::tokens(row as u64, 3 + row),
                config: GenerationConfig {
                    max_new_tokens: 4,
                    sampling,
                    ..GenerationConfig::default()
                },
            };
            let requests = mixed().into_iter().take(batch).enumerate().map(request).collect();
            let mut generator = Generator::from_requests(&llama, &NoAdapter, requests).unwrap();
            // The first one is the prefill.
            for _token in 0..4 {
                let before = read_back_count();
                let steps = generator.next().unwrap().unwrap();
                assert!(steps.iter().all(|step| matches!(step, StepOutput::Token(_))));
                assert_eq!(read_back_count() - before, 1);
            }
            let before = read_back_count();
            generator.next().unwrap().unwrap();
            assert_eq!(read_back_count() - before, 0, "finishing needs no pass");
        }
    }
}

#[test]
fn flat_distributions_take_a_second_read_back() {
    for device in testing::devices() {
        let config = SamplingConfig { top_p: 0.9, ..stochastic() };
        let flat = (0..VOCAB).map(|token| (token % 97) as f32 * 1e-3).collect::<Vec<_>>();
        let mut host_samplers = samplers(&[greedy(), config]);
        let mut batch_sampler = BatchSampler::new(host_samplers.clone(), VOCAB, &device);
        let before = read_back_count();
        let rows = [flat.clone(), flat.clone()];
        let found = batch_sampler.sample(logits_tensor(&rows, &device), &[true, true]).unwrap();
        assert_eq!(read_back_count() - before, 2);
        let expected = host_samplers.iter_mut().map(|sampler| sampler.sample(&flat).unwrap());
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}
