//! One pass of a real model over the rows of a step.
//!
//! ```text
//! fused devices     all rows ─► one packed pass ─► logits of the rows that draw ─► tokens
//! other devices     decoding rows ─► a pass of max_rows x 1    ┐
//!                   the chunk of a prompt ─► a pass of 1 x chunk ┴► as above
//! ```
//!
//! On fused devices a row's result does not depend on the others, by the kernels' construction. On other
//! devices that holds for passes of the same shape, so that their shapes never change.

use adaption_prompt::{PackedAdapters, PreparedAdapter, RowAdapters};
use burn::tensor::Tensor;
use llama::model::{BlockCache, FixedShape, PagedOutput, PagedSequence};
use llama::sampling::{Choice, RowSampling, RowToken, sample_rows};
use llama::{Adapter, Llama};

use super::request::Token;
use super::step_model::{CacheSpec, PassRow, RowOutput, StepModel};

/// Rows whose log-probabilities are computed together: logits of a whole chunk would be large.
const SCORED_TOGETHER: usize = 32;

/// A model with its cache.
pub(super) struct LlamaStepModel {
    llama: Llama,
    cache: BlockCache,
    blocks: usize,
    fixed: Option<FixedPasses>,
}

/// The shapes of passes on devices whose products depend on them.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedPasses {
    /// Rows of a decoding pass.
    pub(super) rows: usize,
    /// Tokens of a prompt's pass, a multiple of the tokens of a block.
    pub(super) chunk: usize,
}

type Row<'r, 'a> = &'r mut PassRow<'a, PreparedAdapter>;
type Outputs = Vec<llama::Result<RowOutput>>;

impl LlamaStepModel {
    /// A model with an empty cache. `fixed` is for devices that are not fused.
    pub(super) fn new(llama: Llama, blocks: usize, fixed: Option<FixedPasses>) -> Self {
        let cache = BlockCache::new(llama.config(), blocks, &llama.device());
        Self { llama, cache, blocks, fixed }
    }

    /// One pass of the model.
    fn run(
        &mut self,
        rows: &mut [Row<'_, '_>],
        shape: Option<FixedShape>,
    ) -> llama::Result<Outputs> {
        let sequences = rows.iter().map(|row| sequence(row)).collect::<Vec<_>>();
        let adapters = PassAdapters::new(rows, shape);
        let cache = &mut self.cache;
        let output = self.llama.forward_paged(&sequences, shape, cache, adapters.of_pass())?;
        let next = self.draw(rows, &output, &adapters)?;
        let targets = self.score(rows, &output, &adapters)?;
        let outputs = next.into_iter().zip(targets).map(|(next, targets)| {
            Ok(RowOutput { next: next.transpose()?.map(Token::from), targets: targets? })
        });
        Ok(outputs.collect())
    }

    /// The next token of each row that draws one.
    fn draw(
        &self,
        rows: &mut [Row<'_, '_>],
        output: &PagedOutput,
        adapters: &PassAdapters,
    ) -> llama::Result<Vec<Option<llama::Result<Choice>>>> {
        let mut next = rows.iter().map(|_| None).collect::<Vec<_>>();
        let (mut picked, mut samplings) = (Vec::new(), Vec::new());
        for (index, row) in rows.iter_mut().enumerate() {
            let (last, logprobs) = (row.tokens.len() - 1, row.top);
            if let Some(sampler) = row.sampler.as_deref_mut() {
                picked.push((index, last));
                samplings.push(RowSampling { token: RowToken::Sampled(sampler), logprobs });
            }
        }
        let choices = self.sample(&picked, &mut samplings, output, adapters)?;
        for ((index, _), choice) in picked.into_iter().zip(choices) {
            next[index] = Some(choice);
        }
        Ok(next)
    }

    /// Log-probabilities of each row's targets.
    fn score(
        &self,
        rows: &[Row<'_, '_>],
        output: &PagedOutput,
        adapters: &PassAdapters,
    ) -> llama::Result<Vec<llama::Result<Vec<Token>>>> {
        let score = |(index, row): (usize, &Row<'_, '_>)| {
            let mut tokens = Ok(Vec::new());
            let positions = (0..row.targets.len()).collect::<Vec<_>>();
            for positions in positions.chunks(SCORED_TOGETHER) {
                let picked = positions.iter().map(|position| (index, *position));
                let mut samplings = positions
                    .iter()
                    .map(|position| RowSampling {
                        token: RowToken::Given(row.targets[*position]),
                        logprobs: Some(row.top.unwrap_or(0)),
                    })
                    .collect::<Vec<_>>();
                let picked = picked.collect::<Vec<_>>();
                let choices = self.sample(&picked, &mut samplings, output, adapters)?;
                let more = choices.into_iter().collect::<llama::Result<Vec<_>>>();
                tokens = tokens.and_then(|mut tokens: Vec<Token>| {
                    tokens.extend(more?.into_iter().map(Token::from));
                    Ok(tokens)
                });
            }
            Ok(tokens)
        };
        rows.iter().enumerate().map(score).collect()
    }

    /// Logits of some tokens of the pass, and what is drawn from them.
    fn sample(
        &self,
        picked: &[(usize, usize)],
        samplings: &mut [RowSampling<'_>],
        output: &PagedOutput,
        adapters: &PassAdapters,
    ) -> llama::Result<Vec<llama::Result<Choice>>> {
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        let hidden = output.select(picked);
        let [rows, _one, _d_model] = hidden.dims();
        // Rows of padding have the first one's adapter.
        let mut sequences = picked.iter().map(|(index, _)| *index).collect::<Vec<_>>();
        sequences.resize(rows, sequences[0]);
        let adapter = adapters.selecting(&sequences);
        let hidden = self.llama.final_norm(hidden, &*adapter);
        let logits = self.llama.logits(hidden, &*adapter);
        let logits: Tensor<2> = logits.squeeze_dim(1);
        sample_rows(logits.narrow(0, 0, picked.len()), samplings)
    }
}

fn sequence<'a>(row: &PassRow<'a, PreparedAdapter>) -> PagedSequence<'a> {
    PagedSequence { tokens: row.tokens, past: row.past, blocks: row.blocks }
}

impl StepModel for LlamaStepModel {
    type Adapter = PreparedAdapter;

    fn spec(&self) -> CacheSpec {
        let fixed_chunk = self.fixed.map(|fixed| fixed.chunk);
        CacheSpec { blocks: self.blocks, fixed_chunk }
    }

    fn pass(&mut self, rows: &mut [PassRow<'_, PreparedAdapter>]) -> llama::Result<Outputs> {
        let Some(FixedPasses { rows: most, chunk }) = self.fixed else {
            return self.run(&mut rows.iter_mut().collect::<Vec<_>>(), None);
        };
        let is_prompt = rows.iter().map(PassRow::is_prompt).collect::<Vec<_>>();
        let (mut prompts, mut decoding): (Vec<_>, Vec<_>) =
            rows.iter_mut().partition(|row| row.is_prompt());
        let decoded = if decoding.is_empty() {
            Vec::new()
        } else {
            self.run(&mut decoding, Some(FixedShape { sequences: most, tokens: 1 }))?
        };
        let mut read = Vec::new();
        for prompt in &mut prompts {
            let shape = FixedShape { sequences: 1, tokens: chunk };
            read.extend(self.run(std::slice::from_mut(prompt), Some(shape))?);
        }
        let (mut decoded, mut read) = (decoded.into_iter(), read.into_iter());
        let output = |is_prompt| if is_prompt { read.next() } else { decoded.next() };
        Ok(is_prompt.into_iter().filter_map(output).collect())
    }

    fn reset(&mut self) {
        self.cache = BlockCache::new(self.llama.config(), self.blocks, &self.llama.device());
    }
}

/// The adapters of a pass's sequences.
enum PassAdapters {
    Packed(PackedAdapters),
    /// In a pass of fixed shape, the adapter of each of its rows.
    Rows {
        pass: RowAdapters,
        rows: Vec<Option<PreparedAdapter>>,
    },
}

impl PassAdapters {
    fn new(rows: &[Row<'_, '_>], shape: Option<FixedShape>) -> Self {
        match shape {
            None => {
                let sequences = rows.iter().map(|row| (row.adapter, row.tokens.len()));
                Self::Packed(PackedAdapters::new(&sequences.collect::<Vec<_>>()))
            }
            Some(shape) => {
                let mut adapters = rows.iter().map(|row| row.adapter).collect::<Vec<_>>();
                adapters.resize(shape.sequences, None);
                let pass = RowAdapters::new(&adapters);
                let rows = adapters.into_iter().map(Option::<&PreparedAdapter>::cloned);
                Self::Rows { pass, rows: rows.collect() }
            }
        }
    }

    fn of_pass(&self) -> &dyn Adapter {
        match self {
            Self::Packed(adapters) => adapters,
            Self::Rows { pass, .. } => pass,
        }
    }

    /// For the head: one row of each of these sequences.
    fn selecting(&self, sequences: &[usize]) -> Box<dyn Adapter> {
        match self {
            Self::Packed(adapters) => Box::new(adapters.selecting(sequences)),
            Self::Rows { rows, .. } => {
                let rows = sequences.iter().map(|index| rows[*index].as_ref());
                Box::new(RowAdapters::new(&rows.collect::<Vec<_>>()))
            }
        }
    }
}
