//! Sampling a batch from logits on a device, with one small read-back per token.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::batch_penalty::BatchPenalty;
use super::sampler::Sampler;
use super::top_candidates::{
    CandidateRequest, RowCandidates, TOP_CHUNKS, TOP_P_GROUPS, top_candidates,
};
use crate::error::{Error, Result};
use crate::read_back::read_back;

/// Samples the next tokens of a batch from logits on a device. Each row gets the token that its
/// [`Sampler`] would sample on the host.
///
/// ```
/// use burn::tensor::Tensor;
/// use llama::sampling::{BatchSampler, Sampler, SamplingConfig};
/// # let device = testing::flex();
///
/// let greedy = Sampler::new(SamplingConfig::default(), 0)?;
/// let logits = Tensor::<2>::from_floats([[0.1, 2.5, -1.0], [0.0, 0.0, 0.0]], &device);
/// let mut batch_sampler = BatchSampler::new(vec![greedy.clone(), greedy], 3, &device);
/// assert_eq!(batch_sampler.sample(logits, &[true, true])?, [1, 0]);
/// # Ok::<(), llama::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchSampler {
    samplers: Vec<Sampler>,
    vocab: usize,
    /// `[batch, 1]`, 1 for greedy rows.
    temperature: Tensor<2>,
    penalty: Option<BatchPenalty>,
}

/// The scores that a row's token depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CandidateScope {
    /// The highest score.
    Argmax,
    /// A number of the highest scores.
    TopK(usize),
    /// The highest scores whose probabilities reach `top_p`, or `min_p` of the highest.
    TopP,
    /// All scores.
    FullVocab,
    /// All logits: the row has a bias or penalties that only the host applies.
    Logits,
}

impl BatchSampler {
    /// A sampler for a batch, with one [`Sampler`] per row. They must have observed their prompts.
    ///
    /// # Panics
    /// If there are no samplers or no tokens.
    pub fn new(samplers: Vec<Sampler>, vocab: usize, device: &Device) -> Self {
        assert!(!samplers.is_empty() && vocab > 0, "no rows or no tokens");
        let temperature = |sampler: &Sampler| {
            if sampler.config().is_greedy() { 1.0 } else { sampler.config().temperature }
        };
        let temperature = column_tensor(samplers.iter().map(temperature), device);
        let penalty = |sampler: &Sampler| sampler.config().repetition_penalty;
        let penalty = samplers.iter().any(|sampler| penalty(sampler) != 1.0).then(|| {
            let row = |sampler| (penalty(sampler), sampler.seen_tokens().collect());
            BatchPenalty::new(&samplers.iter().map(row).collect::<Vec<_>>(), vocab, device)
        });
        Self { samplers, vocab, temperature, penalty }
    }

    /// Samples a token for every active row and observes it. Inactive rows get 0, use no random number
    /// and must stay inactive.
    ///
    /// It reads back once for all rows: 2 values per row if all rows are greedy, otherwise about 2000
    /// per row, or 8000 if a row has `top_p` without `top_k`; a `top_k` of 64 or more reads the whole
    /// vocabulary. A second read-back of a row's whole vocabulary follows if the candidates do not
    /// determine the token: they do not reach `top_p` because the distribution is very flat, equal
    /// scores leave `top_k` undecided, or the row has a bias or a frequency or presence penalty.
    ///
    /// # Shapes
    /// - `logits`: `[batch, vocab]`, f32
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`] if a logit of an active row is NaN or positive infinity;
    /// [`Error::Device`].
    ///
    /// # Panics
    /// If the shapes do not match the samplers and the vocabulary.
    pub fn sample(&mut self, logits: Tensor<2>, active: &[bool]) -> Result<Vec<u32>> {
        let batch = self.samplers.len();
        assert_eq!(logits.dims(), [batch, self.vocab], "logits of another batch");
        assert_eq!(active.len(), batch, "rows of another batch");
        let device = logits.device();
        let scores = match &self.penalty {
            Some(penalty) => penalty.apply(logits.clone()),
            None => logits.clone(),
        };
        let rows = self.samplers.iter_mut().zip(active);
        let uniforms = rows
            .map(|(sampler, active)| if *active { sampler.next_uniform() } else { 0.0 })
            .collect::<Vec<_>>();
        let request = self.candidate_request(active);
        // Uploaded only if the device needs it, which greedy rows do not.
        let uniform =
            || column_tensor(uniforms.iter().map(|uniform| f32_below_one(*uniform)), &device);
        let values = top_candidates(request, scores, &self.temperature, uniform);
        let values = read_back(values)?;
        let values = values.iter::<f32>().collect::<Vec<_>>();
        let mut tokens = vec![0; batch];
        let mut incomplete_rows = Vec::new();
        for (row, values) in values.chunks(values.len() / batch).enumerate() {
            if !active[row] {
                continue;
            }
            let candidates = RowCandidates::new(values, request, self.vocab);
            let max_score = candidates.max_score;
            if max_score.is_nan() || max_score == f32::INFINITY {
                return Err(Error::NonFiniteLogits { found: max_score });
            }
            match self.sample_row(row, &candidates, uniforms[row]) {
                Some(token) => tokens[row] = token,
                None => incomplete_rows.push(row),
            }
        }
        if !incomplete_rows.is_empty() {
            for (row, token) in self.sample_on_host(&incomplete_rows, logits, &uniforms)? {
                tokens[row] = token;
            }
        }
        let rows = self.samplers.iter_mut().enumerate().filter(|(row, _)| active[*row]);
        for (row, sampler) in rows {
            sampler.record(tokens[row]);
        }
        if let Some(penalty) = &mut self.penalty {
            penalty.record(&tokens, &device);
        }
        Ok(tokens)
    }

    fn candidate_scope(&self, row: usize) -> CandidateScope {
        let config = self.samplers[row].config();
        match config.top_k {
            _ if config.has_bias_or_counts() => CandidateScope::Logits,
            _ if config.is_greedy() => CandidateScope::Argmax,
            top_k if top_k > 0 && top_k < self.vocab => CandidateScope::TopK(top_k),
            _ if config.top_p < 1.0 || config.min_p > 0.0 => CandidateScope::TopP,
            _ => CandidateScope::FullVocab,
        }
    }

    fn candidate_request(&self, active: &[bool]) -> CandidateRequest {
        use CandidateScope::{FullVocab, TopK, TopP};
        let rows = (0..active.len()).filter(|row| active[*row]);
        let scopes = rows.map(|row| self.candidate_scope(row)).collect::<Vec<_>>();
        let any = |matches_scope: fn(&CandidateScope) -> bool| scopes.iter().any(matches_scope);
        let any_top_p = any(|scope| *scope == TopP);
        let any_top_k = any(|scope| matches!(scope, TopK(_)));
        CandidateRequest {
            groups: if any_top_p { TOP_P_GROUPS } else { usize::from(any_top_k) },
            // With as many tokens as chunks, the last one may tie with a chunk that is not returned.
            all_chunks: any(|scope| matches!(scope, TopK(top_k) if *top_k >= TOP_CHUNKS)),
            inverse_cdf: any(|scope| matches!(scope, TopP | FullVocab)),
        }
    }

    /// The token of a row; `None` if the candidates do not determine it.
    fn sample_row(&self, row: usize, candidates: &RowCandidates, uniform: f64) -> Option<u32> {
        let sampler = &self.samplers[row];
        match self.candidate_scope(row) {
            CandidateScope::Argmax => Some(candidates.argmax),
            CandidateScope::TopK(_) | CandidateScope::TopP => {
                sampler.sample_candidates(candidates.top_chunk_candidates(), uniform)
            }
            CandidateScope::FullVocab => {
                candidates.sample_inverse_cdf(f64::from(sampler.config().temperature))
            }
            CandidateScope::Logits => None,
        }
    }

    /// Tokens of rows whose candidates did not determine them, after a read-back of all their logits.
    fn sample_on_host(
        &self,
        rows: &[usize],
        logits: Tensor<2>,
        uniforms: &[f64],
    ) -> Result<Vec<(usize, u32)>> {
        let ids = rows.iter().map(|row| *row as i64).collect::<Vec<_>>();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows.len()]), &logits.device());
        let values = read_back(logits.select(0, ids))?.iter::<f32>().collect::<Vec<_>>();
        let sample = |(&row, logits): (&usize, &[f32])| {
            (row, self.samplers[row].token(logits, uniforms[row]))
        };
        Ok(rows.iter().zip(values.chunks(self.vocab)).map(sample).collect())
    }
}

/// One value per row, `[batch, 1]`.
fn column_tensor(values: impl Iterator<Item = f32>, device: &Device) -> Tensor<2> {
    let values = values.collect::<Vec<_>>();
    let batch = values.len();
    Tensor::from_data(TensorData::new(values, [batch, 1]), device)
}

/// Rounded to f32 but still below 1, so that its product with a sum stays below the sum.
fn f32_below_one(uniform: f64) -> f32 {
    (uniform as f32).min(1.0 - f32::EPSILON / 2.0)
}
