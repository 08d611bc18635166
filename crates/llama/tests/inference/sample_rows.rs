//! Rows of one pass with different settings: each gets what its sampler chooses alone.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use kernels::is_fused;
use llama::read_back::{read_back_bytes, read_back_count};
use llama::sampling::{Choice, RowSampling, RowToken, Sampler, sample_rows};
use llama::{Error, Result, SamplingConfig};
use testing::tiny_model::{VOCAB, tokens};

/// Random logits with equal ones among them.
fn logits(seed: u64) -> Vec<f32> {
    tokens(seed, VOCAB).into_iter().map(|value| value as f32 * 0.1 - 3.0).collect()
}

fn tensor(rows: &[Vec<f32>], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), VOCAB]), device)
}

fn greedy() -> SamplingConfig {
    SamplingConfig::default()
}

/// Settings of every kind.
fn mixed() -> [SamplingConfig; 5] {
    let stochastic = SamplingConfig { temperature: 0.8, seed: 3, ..greedy() };
    [
        greedy(),
        SamplingConfig { top_k: 10, repetition_penalty: 1.3, ..stochastic.clone() },
        SamplingConfig { frequency_penalty: 1.0, presence_penalty: 0.5, ..greedy() },
        SamplingConfig { logit_bias: BTreeMap::from([(5, 50.0)]), ..stochastic.clone() },
        SamplingConfig { top_p: 0.9, min_p: 0.1, ..stochastic },
    ]
}

fn samplers(configs: &[SamplingConfig]) -> Vec<Sampler> {
    (0..).zip(configs).map(|(row, config)| Sampler::new(config.clone(), row).unwrap()).collect()
}

fn sampled<'a>(samplers: &'a mut [Sampler], logprobs: &[Option<usize>]) -> Vec<RowSampling<'a>> {
    let rows = samplers.iter_mut().zip(logprobs);
    rows.map(|(sampler, &logprobs)| RowSampling { token: RowToken::Sampled(sampler), logprobs })
        .collect()
}

fn unwrap_all(choices: Vec<Result<Choice>>) -> Vec<Choice> {
    choices.into_iter().map(|choice| choice.unwrap()).collect()
}

#[test]
fn each_row_gets_what_its_sampler_chooses_alone() {
    let logprobs = [None, Some(3), None, Some(0), None];
    for device in testing::devices() {
        let (mut together, mut alone) = (samplers(&mixed()), samplers(&mixed()));
        for step in 0..6 {
            let rows = (0..5).map(|row| logits(10 * step + row)).collect::<Vec<_>>();
            let mut row_samplings = sampled(&mut together, &logprobs);
            let found = sample_rows(tensor(&rows, &device), &mut row_samplings).unwrap();
            let rows = alone.iter_mut().zip(&rows).zip(logprobs);
            let expected = rows.map(|((sampler, row), top)| sampler.choose(row, top).unwrap());
            assert_eq!(unwrap_all(found), expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn greedy_rows_read_back_two_values_where_logits_are_not_in_host_memory() {
    for device in testing::devices() {
        let rows = [logits(1), logits(2), vec![f32::NEG_INFINITY; VOCAB]];
        let mut row_samplers = samplers(&[greedy(), greedy(), greedy()]);
        let before = (read_back_count(), read_back_bytes());
        let mut row_samplings = sampled(&mut row_samplers, &[None; 3]);
        let found = sample_rows(tensor(&rows, &device), &mut row_samplings).unwrap();
        assert_eq!(read_back_count() - before.0, 1);
        let values = if is_fused(&device) { VOCAB } else { 2 };
        assert_eq!(read_back_bytes() - before.1, 3 * 4 * values);
        let mut alone = samplers(&[greedy()]);
        let expected = rows.map(|row| alone[0].choose(&row, None).unwrap());
        assert_eq!(unwrap_all(found), expected);
    }
}

#[test]
fn a_row_with_broken_logits_fails_alone() {
    for device in testing::devices() {
        for config in [greedy(), SamplingConfig { temperature: 1.0, ..greedy() }] {
            for broken in [f32::NAN, f32::INFINITY] {
                let mut rows = [logits(1), logits(2), logits(3)];
                rows[1][100] = broken;
                let mut row_samplers = samplers(&[config.clone(), config.clone(), config.clone()]);
                let mut row_samplings = sampled(&mut row_samplers, &[None; 3]);
                let found = sample_rows(tensor(&rows, &device), &mut row_samplings).unwrap();
                assert!(matches!(found[..], [Ok(_), Err(Error::NonFiniteLogits { .. }), Ok(_)]));
            }
        }
    }
}

#[test]
fn a_given_token_gets_the_log_probabilities_that_a_sampled_one_gets() {
    for device in testing::devices() {
        let mut row_samplers = samplers(&[greedy()]);
        let found =
            sample_rows(tensor(&[logits(1)], &device), &mut sampled(&mut row_samplers, &[Some(4)]));
        let expected = unwrap_all(found.unwrap());
        let token = RowToken::Given(expected[0].token);
        let mut rows = [RowSampling { token, logprobs: Some(4) }];
        let found = sample_rows(tensor(&[logits(1)], &device), &mut rows).unwrap();
        assert_eq!(unwrap_all(found), expected);
    }
}

#[test]
fn a_given_token_outside_the_vocabulary_is_an_error() {
    let token = RowToken::Given(VOCAB as u32);
    let mut rows = [RowSampling { token, logprobs: Some(0) }];
    let found = sample_rows(tensor(&[logits(1)], &testing::flex()), &mut rows).unwrap();
    assert_eq!(
        found[0].as_ref().unwrap_err().to_string(),
        "token id 128 is outside the vocabulary of 128 tokens"
    );
}

#[test]
fn no_rows_give_no_choices() {
    let logits = Tensor::<2>::zeros([0, VOCAB], &testing::flex());
    assert!(sample_rows(logits, &mut []).unwrap().is_empty());
}
