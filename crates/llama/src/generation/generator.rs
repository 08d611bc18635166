//! prompts ─► one pass over all of them ─► choose ─► one pass a token ─► choose ─► ...
//!
//! Prompts of unequal length are padded on the left, so that every row's next token stands in the
//! same slot. A row that has finished keeps its place in the batch and is no longer looked at.

use std::time::Instant;

use burn::tensor::Tensor;

use crate::choose::BatchSampler;
use crate::error::{Error, Result};
use crate::generate::{Completion, FinishReason, GenerationConfig, Request, StepOutput};
use crate::model::Llama;
use crate::sample::Sampler;
use crate::seam::Adapter;
use crate::state::KvCache;

/// Decodes a batch, one token a row at every step.
///
/// The iterator gives one [`Step`] for each row, in the order of the prompts, and ends when all of
/// them have finished or after an error.
///
/// The adapter should live on a device without autodiff: gradients would pile up in the cache.
pub struct Generator<'a> {
    llama: &'a Llama,
    adapter: &'a dyn Adapter,
    state: KvCache,
    chooser: BatchSampler,
    rows: Vec<Row>,
    /// What the next pass reads: the padded prompts, then the last token of each row.
    input: Vec<Vec<u32>>,
    /// Spent in passes and sampling so far.
    seconds: f64,
    seconds_prompt: Option<f64>,
    done: bool,
}

#[derive(Debug)]
struct Row {
    stop_tokens: Vec<u32>,
    /// Tokens it may still grow by.
    room: usize,
    finish: Option<FinishReason>,
    seconds: f64,
}

/// Fills the slots before short prompts and behind finished rows; nothing looks at it.
const FILLER: u32 = 0;

impl<'a> Generator<'a> {
    /// Continues several prompts with the same settings. Row `i` draws from stream `i` of the
    /// seed, so that equal prompts may go on differently.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TooLong`] for a prompt longer than the model's context,
    /// or [`Error::Sampling`]. [`Error::TokenId`] for a token outside the vocabulary comes with the
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
        Self::start(llama, adapter, requests, |row| row)
    }

    /// Continues prompts that have settings of their own. Each row draws as it would alone.
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
        Self::start(llama, adapter, requests, |_row| 0)
    }

    fn start(
        llama: &'a Llama,
        adapter: &'a dyn Adapter,
        requests: Vec<Request>,
        stream: fn(u64) -> u64,
    ) -> Result<Self> {
        assert!(!requests.is_empty(), "nothing to generate from");
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
            let mut sampler = Sampler::new(config.sampling, stream(index as u64))?;
            sampler.observe(&prompt);
            let room = config.max_new_tokens.min(context - prompt.len());
            samplers.push(sampler);
            rows.push(Row {
                stop_tokens: config.stop_tokens,
                room,
                finish: (room == 0).then_some(FinishReason::Length),
                seconds: 0.0,
            });
            input.push(prompt);
        }
        let width = input.iter().map(Vec::len).max().unwrap_or(0);
        let padding = input.iter().map(|prompt| width - prompt.len()).collect::<Vec<_>>();
        for (prompt, &padding) in input.iter_mut().zip(&padding) {
            prompt.splice(0..0, std::iter::repeat_n(FILLER, padding));
        }
        let longest = rows.iter().map(|row| row.room).max().unwrap_or(0);
        // The last token of a row is never read again.
        let capacity = width + longest.saturating_sub(1);
        let device = llama.device().without_autodiff();
        let state = KvCache::with_capacity(llama.config(), padding, capacity, &device);
        let chooser = BatchSampler::new(samplers, llama.config().vocab_size, &device);
        Ok(Self {
            llama,
            adapter,
            state,
            chooser,
            rows,
            input,
            seconds: 0.0,
            seconds_prompt: None,
            done: false,
        })
    }

    /// Rows in the batch.
    pub fn batch(&self) -> usize {
        self.rows.len()
    }

    /// Why a row ended, once it has.
    pub fn finish_reason(&self, row: usize) -> Option<FinishReason> {
        self.rows[row].finish
    }

    /// Seconds of the pass over the prompts, up to the first token; 0 before it.
    pub fn prefill_seconds(&self) -> f64 {
        self.seconds_prompt.unwrap_or(0.0)
    }

    /// Seconds from a row's first token to its latest; what the caller does between the steps does
    /// not count.
    pub fn decode_seconds(&self, row: usize) -> f64 {
        (self.rows[row].seconds - self.prefill_seconds()).max(0.0)
    }

    /// Ends a row early: its text holds a stop string, or nobody reads it any more.
    pub fn stop_row(&mut self, row: usize, reason: FinishReason) {
        self.rows[row].finish.get_or_insert(reason);
    }

    fn is_finished(&self) -> bool {
        self.rows.iter().all(|row| row.finish.is_some())
    }

    fn step(&mut self) -> Result<Vec<StepOutput>> {
        // A row that used up its room at the step before is told so without another pass.
        for row in &mut self.rows {
            if row.room == 0 {
                row.finish.get_or_insert(FinishReason::Length);
            }
        }
        if !self.is_finished() {
            let begin = Instant::now();
            let logits = self.pass()?;
            let wanted = self.rows.iter().map(|row| row.finish.is_none()).collect::<Vec<_>>();
            let tokens = self.chooser.sample(logits, &wanted)?;
            for ((row, input), token) in self.rows.iter_mut().zip(&mut self.input).zip(tokens) {
                *input = vec![row.take(token).unwrap_or(FILLER)];
            }
            self.seconds += begin.elapsed().as_secs_f64();
            self.seconds_prompt.get_or_insert(self.seconds);
            for row in self.rows.iter_mut().filter(|row| row.finish.is_none()) {
                row.seconds = self.seconds;
            }
        }
        let steps = self.rows.iter().zip(&self.input).map(|(row, input)| match row.finish {
            Some(reason) => StepOutput::Finished(reason),
            None => StepOutput::Token(input[0]),
        });
        Ok(steps.collect())
    }

    /// Runs the model over the input and gives every row's scores of its next token,
    /// `[batch, vocab]`.
    fn pass(&mut self) -> Result<Tensor<2>> {
        let tokens = self.llama.tokens(&self.input)?;
        let [_batch, seq] = tokens.dims();
        let hidden = self.llama.forward(tokens, Some(&mut self.state), self.adapter)?;
        let last = self.llama.logits(hidden.narrow(1, seq - 1, 1), self.adapter);
        Ok(last.squeeze_dim(1))
    }
}

impl Row {
    /// Grows by a token, if it goes on and the token does not end it.
    fn take(&mut self, token: u32) -> Option<u32> {
        if self.finish.is_some() {
            return None;
        }
        if self.stop_tokens.contains(&token) {
            self.finish = Some(FinishReason::Stop);
            return None;
        }
        self.room -= 1;
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
            .field("slots", &self.state.len())
            .finish_non_exhaustive()
    }
}

/// Continues every prompt to its end, all of them as one batch.
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
/// let llama = weights::random(config, &device)?;
/// let prompts = [vec![1, 2, 3], vec![4]];
/// let config = GenerationConfig { max_new_tokens: 5, ..GenerationConfig::default() };
/// let completions = generate(&llama, &NoAdapter, &prompts, &config)?;
/// assert_eq!(completions[1].tokens.len(), 5);
/// assert_eq!(completions[1].finish, FinishReason::Length);
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
        seconds_prompt: generator.prefill_seconds(),
        seconds_decode: generator.decode_seconds(row),
    });
    Ok(completions.collect())
}
