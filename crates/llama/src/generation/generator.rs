//! Batched decoding.
//!
//! Prompts of unequal length are padded on the left, so that the next token of every row has the same
//! cache position. A finished row stays in the batch, and its output is ignored.

use std::time::Instant;

use burn::tensor::Tensor;

use super::output::{Completion, FinishReason, StepOutput};
use super::request::{GenerationConfig, Request};
use crate::error::{Error, Result};
use crate::model::{Adapter, KvCache, Llama};
use crate::sampling::{BatchSampler, Sampler};

/// Decodes a batch, one token per row and step.
///
/// The iterator yields one [`StepOutput`] per row, in the order of the prompts. It ends when all rows
/// have finished, or after an error.
///
/// The adapter should be on a device without autodiff; otherwise the cache keeps the graph of every
/// step.
pub struct Generator<'a> {
    llama: &'a Llama,
    adapter: &'a dyn Adapter,
    cache: KvCache,
    batch_sampler: BatchSampler,
    rows: Vec<RowState>,
    /// Input of the next pass: the padded prompts, then the last token of each row.
    input: Vec<Vec<u32>>,
    /// Time in passes and sampling so far.
    seconds: f64,
    prefill_seconds: Option<f64>,
    done: bool,
}

#[derive(Debug)]
struct RowState {
    stop_tokens: Vec<u32>,
    /// Tokens that may still be added.
    remaining_tokens: usize,
    finish_reason: Option<FinishReason>,
    seconds: f64,
}

/// Token of padding and of finished rows; never attended to.
const PADDING_TOKEN: u32 = 0;

impl<'a> Generator<'a> {
    /// A generator for several prompts with the same settings. Row `i` samples from stream `i` of the
    /// random seed, so that equal prompts can have different completions.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::SequenceTooLong`] for a prompt longer than the model's context,
    /// or [`Error::SamplingSetting`]. A token outside the vocabulary is an [`Error::TokenId`] of the
    /// first step.
    ///
    /// # Panics
    /// If there are no prompts.
    pub fn new(
        llama: &'a Llama,
        adapter: &'a dyn Adapter,
        prompts: &[Vec<u32>],
        config: &GenerationConfig,
    ) -> Result<Self> {
        let requests = prompts
            .iter()
            .map(|prompt| Request { prompt: prompt.clone(), config: config.clone() })
            .collect();
        Self::build(llama, adapter, requests, |row| row)
    }

    /// A generator for prompts with individual settings. Each row samples what it would sample alone.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Panics
    /// If there are no requests.
    pub fn from_requests(
        llama: &'a Llama,
        adapter: &'a dyn Adapter,
        requests: Vec<Request>,
    ) -> Result<Self> {
        Self::build(llama, adapter, requests, |_row| 0)
    }

    fn build(
        llama: &'a Llama,
        adapter: &'a dyn Adapter,
        requests: Vec<Request>,
        rng_stream: fn(u64) -> u64,
    ) -> Result<Self> {
        assert!(!requests.is_empty(), "there are no prompts");
        let context = llama.config().max_positions;
        let mut samplers = Vec::with_capacity(requests.len());
        let mut rows = Vec::with_capacity(requests.len());
        let mut input = Vec::with_capacity(requests.len());
        for (index, Request { mut prompt, config }) in requests.into_iter().enumerate() {
            if prompt.is_empty() {
                prompt.push(config.bos.ok_or(Error::EmptyPrompt { row: index })?);
            }
            if prompt.len() > context {
                let what = "the model's context";
                return Err(Error::SequenceTooLong {
                    asked: prompt.len(),
                    what,
                    capacity: context,
                });
            }
            let mut sampler = Sampler::new(config.sampling, rng_stream(index as u64))?;
            sampler.observe(&prompt);
            let remaining_tokens = config.max_new_tokens.min(context - prompt.len());
            samplers.push(sampler);
            rows.push(RowState {
                stop_tokens: config.stop_tokens,
                remaining_tokens,
                finish_reason: (remaining_tokens == 0).then_some(FinishReason::Length),
                seconds: 0.0,
            });
            input.push(prompt);
        }
        let width = input.iter().map(Vec::len).max().unwrap_or(0);
        let padding = input.iter().map(|prompt| width - prompt.len()).collect::<Vec<_>>();
        for (prompt, &padding) in input.iter_mut().zip(&padding) {
            prompt.splice(0..0, std::iter::repeat_n(PADDING_TOKEN, padding));
        }
        let max_new = rows.iter().map(|row| row.remaining_tokens).max().unwrap_or(0);
        // The last token of a row is not an input of another pass.
        let capacity = width + max_new.saturating_sub(1);
        let device = llama.device().without_autodiff();
        let cache = KvCache::with_unchecked_capacity(llama.config(), padding, capacity, &device);
        let batch_sampler = BatchSampler::new(samplers, llama.config().vocab_size, &device);
        Ok(Self {
            llama,
            adapter,
            cache,
            batch_sampler,
            rows,
            input,
            seconds: 0.0,
            prefill_seconds: None,
            done: false,
        })
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Why a row finished; `None` if it has not.
    pub fn finish_reason(&self, row: usize) -> Option<FinishReason> {
        self.rows[row].finish_reason
    }

    /// Seconds of the prefill, up to the first token; 0 before it.
    pub fn prefill_seconds(&self) -> f64 {
        self.prefill_seconds.unwrap_or(0.0)
    }

    /// Seconds from a row's first token to its latest, without the caller's time between steps.
    pub fn decode_seconds(&self, row: usize) -> f64 {
        (self.rows[row].seconds - self.prefill_seconds()).max(0.0)
    }

    /// Finishes a row early, for example at a stop string.
    pub fn stop_row(&mut self, row: usize, reason: FinishReason) {
        self.rows[row].finish_reason.get_or_insert(reason);
    }

    fn is_finished(&self) -> bool {
        self.rows.iter().all(|row| row.finish_reason.is_some())
    }

    fn step(&mut self) -> Result<Vec<StepOutput>> {
        // A row that reached its limit in the previous step needs no further pass.
        for row in &mut self.rows {
            if row.remaining_tokens == 0 {
                row.finish_reason.get_or_insert(FinishReason::Length);
            }
        }
        if !self.is_finished() {
            let started = Instant::now();
            let logits = self.next_logits()?;
            let active =
                self.rows.iter().map(|row| row.finish_reason.is_none()).collect::<Vec<_>>();
            let tokens = self.batch_sampler.sample(logits, &active)?;
            for ((row, input), token) in self.rows.iter_mut().zip(&mut self.input).zip(tokens) {
                *input = vec![row.accept(token).unwrap_or(PADDING_TOKEN)];
            }
            self.seconds += started.elapsed().as_secs_f64();
            self.prefill_seconds.get_or_insert(self.seconds);
            for row in self.rows.iter_mut().filter(|row| row.finish_reason.is_none()) {
                row.seconds = self.seconds;
            }
        }
        let steps = self.rows.iter().zip(&self.input).map(|(row, input)| match row.finish_reason {
            Some(reason) => StepOutput::Finished(reason),
            None => StepOutput::Token(input[0]),
        });
        Ok(steps.collect())
    }

    /// Runs the model on the input. Logits of every row's next token, `[batch, vocab]`.
    fn next_logits(&mut self) -> Result<Tensor<2>> {
        let tokens = self.llama.tokens(&self.input)?;
        let [_batch, seq] = tokens.dims();
        let hidden = self.llama.forward(tokens, Some(&mut self.cache), self.adapter)?;
        let last = self.llama.logits(hidden.narrow(1, seq - 1, 1), self.adapter);
        Ok(last.squeeze_dim(1))
    }
}

impl RowState {
    /// Adds a token; `None` if the row has finished or the token finishes it.
    fn accept(&mut self, token: u32) -> Option<u32> {
        if self.finish_reason.is_some() {
            return None;
        }
        if self.stop_tokens.contains(&token) {
            self.finish_reason = Some(FinishReason::Stop);
            return None;
        }
        self.remaining_tokens -= 1;
        Some(token)
    }
}

impl Iterator for Generator<'_> {
    type Item = Result<Vec<StepOutput>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done = step.is_err() || self.is_finished();
        Some(step)
    }
}

impl std::fmt::Debug for Generator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator")
            .field("rows", &self.rows)
            .field("cache_len", &self.cache.len())
            .finish_non_exhaustive()
    }
}

/// Generates completions of all prompts as one batch.
///
/// ```
/// use llama::{FinishReason, GenerationConfig, NoAdapter, generate, weights};
/// # let device = testing::flex();
/// # let config = serde_json::json!({
/// #     "model_type": "llama", "hidden_size": 8, "intermediate_size": 8,
/// #     "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
/// # });
/// # let path = std::path::Path::new("config.json");
/// # let config = weights::huggingface::parse_config(path, &config.to_string())?;
/// let llama = weights::random_init(config, &device)?;
/// let prompts = [vec![1, 2, 3], vec![4]];
/// let config = GenerationConfig { max_new_tokens: 5, ..GenerationConfig::default() };
/// let completions = generate(&llama, &NoAdapter, &prompts, &config)?;
/// assert_eq!(completions[1].tokens.len(), 5);
/// assert_eq!(completions[1].finish_reason, FinishReason::Length);
/// # Ok::<(), llama::Error>(())
/// ```
///
/// # Errors
/// As [`Generator::new`].
pub fn generate(
    llama: &Llama,
    adapter: &dyn Adapter,
    prompts: &[Vec<u32>],
    config: &GenerationConfig,
) -> Result<Vec<Completion>> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut generator = Generator::new(llama, adapter, prompts, config)?;
    let mut tokens = vec![Vec::new(); prompts.len()];
    for steps in generator.by_ref() {
        for (tokens, step) in tokens.iter_mut().zip(steps?) {
            if let StepOutput::Token(token) = step {
                tokens.push(token);
            }
        }
    }
    let completions = tokens.into_iter().enumerate().map(|(row, tokens)| Completion {
        tokens,
        finish_reason: generator.finish_reason(row).expect("the generator ran to the end"),
        prefill_seconds: generator.prefill_seconds(),
        decode_seconds: generator.decode_seconds(row),
    });
    Ok(completions.collect())
}
