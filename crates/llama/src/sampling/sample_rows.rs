//! Tokens of the rows of one pass, each with its own settings.

use burn::tensor::Tensor;
use kernels::is_fused;
use rayon::prelude::*;

use super::logprobs::Logprobs;
use super::sampler::{Choice, Sampler, check_logits};
use super::top_candidates::{CandidateRequest, RowCandidates, top_candidates};
use crate::error::{Error, Result};
use crate::read_back::read_back;

/// What is wanted of a row of logits.
#[derive(Debug)]
pub struct RowSampling<'a> {
    /// Where the token comes from.
    pub token: RowToken<'a>,
    /// How many of the likeliest tokens to list, with log-probabilities of these and of the token;
    /// `None`: no log-probabilities.
    pub logprobs: Option<usize>,
}

/// Where the token of a row comes from.
#[derive(Debug)]
pub enum RowToken<'a> {
    /// The row's sampler chooses it.
    Sampled(&'a mut Sampler),
    /// It is known, such as a token of a prompt, and only its log-probabilities are wanted.
    Given(u32),
}

/// Chooses the token of every row. A row's choice depends on its own logits and sampler alone.
///
/// It reads back once: all logits, or two values per row on devices that are not fused if every row is
/// greedy, without bias, penalties and log-probabilities. Rows are sampled in parallel, on the threads of
/// the caller's rayon pool.
///
/// ```
/// use burn::tensor::Tensor;
/// use llama::sampling::{RowSampling, RowToken, Sampler, SamplingConfig, sample_rows};
/// # let device = testing::flex();
///
/// let mut greedy = Sampler::new(SamplingConfig::default(), 0)?;
/// let logits = Tensor::<2>::from_floats([[0.1, 2.5, -1.0], [0.0, 0.0, 0.0]], &device);
/// let mut rows = [
///     RowSampling { token: RowToken::Sampled(&mut greedy), logprobs: None },
///     RowSampling { token: RowToken::Given(2), logprobs: Some(0) },
/// ];
/// let choices = sample_rows(logits, &mut rows)?;
/// assert_eq!(choices[0].as_ref().unwrap().token, 1);
/// let logprobs = choices[1].as_ref().unwrap().logprobs.clone();
/// assert!((logprobs.unwrap().token - (1.0_f32 / 3.0).ln()).abs() < 1e-6);
/// # Ok::<(), llama::Error>(())
/// ```
///
/// # Shapes
/// - `logits`: `[rows, vocab]`, f32
///
/// # Errors
/// [`Error::Device`] for all rows. For a single row, [`Error::NonFiniteLogits`] if one of its logits is NaN
/// or positive infinity, or [`Error::TokenId`] for a given token outside the vocabulary.
///
/// # Panics
/// If the number of rows differs from that of the logits.
pub fn sample_rows(logits: Tensor<2>, rows: &mut [RowSampling<'_>]) -> Result<Vec<Result<Choice>>> {
    let [n_rows, vocab] = logits.dims();
    assert_eq!(n_rows, rows.len(), "logits of other rows");
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    if !is_fused(&logits.device()) && rows.iter().all(RowSampling::is_argmax) {
        return argmax_rows(logits, rows);
    }
    let values = read_back(logits)?;
    let values = values.as_slice::<f32>().expect("logits are f32");
    let rows = rows.par_iter_mut().zip(values.par_chunks(vocab));
    Ok(rows.map(|(row, logits)| row.choose(logits)).collect())
}

/// [`sample_rows`] where the highest logit decides.
fn argmax_rows(logits: Tensor<2>, rows: &mut [RowSampling<'_>]) -> Result<Vec<Result<Choice>>> {
    let [n_rows, vocab] = logits.dims();
    let temperature = Tensor::ones([n_rows, 1], &logits.device());
    let request = CandidateRequest { groups: 0, all_chunks: false, inverse_cdf: false };
    let values =
        top_candidates(request, logits, &temperature, || unreachable!("no random numbers"));
    let values = read_back(values)?.iter::<f32>().collect::<Vec<_>>();
    let rows = rows.iter_mut().zip(values.chunks(values.len() / n_rows));
    let choices = rows.map(|(row, values)| {
        let RowCandidates { argmax, max_score, .. } = RowCandidates::new(values, request, vocab);
        check_logits(&[max_score])?;
        if let RowToken::Sampled(sampler) = &mut row.token {
            sampler.record(argmax);
        }
        Ok(Choice { token: argmax, logprobs: None })
    });
    Ok(choices.collect())
}

impl RowSampling<'_> {
    /// Whether the highest logit alone decides.
    fn is_argmax(&self) -> bool {
        let RowToken::Sampled(sampler) = &self.token else { return false };
        let config = sampler.config();
        let penalized = config.repetition_penalty != 1.0 || config.has_bias_or_counts();
        self.logprobs.is_none() && config.is_greedy() && !penalized
    }

    fn choose(&mut self, logits: &[f32]) -> Result<Choice> {
        match &mut self.token {
            RowToken::Sampled(sampler) => sampler.choose(logits, self.logprobs),
            RowToken::Given(token) => {
                check_logits(logits)?;
                if *token as usize >= logits.len() {
                    let vocab_size = logits.len();
                    return Err(Error::TokenId { id: (*token).into(), vocab_size });
                }
                let logprobs = self.logprobs.map(|top| Logprobs::new(logits, *token, top));
                Ok(Choice { token: *token, logprobs })
            }
        }
    }
}
