//! One answer on its way: its tokens, its blocks, its random numbers, its text.

use std::sync::Arc;
use std::time::Instant;

use llama::FinishReason;
use llama::sampling::Sampler;
use text::Tokenizer;

use super::BLOCK_TOKENS;
use super::adapters::Instance;
use super::answer_text::AnswerText;
use super::blocks::{BlockAllocator, BlockId};
use super::prefix::PrefixKeys;
use super::request::{GenerationRequest, Token};

/// A row of the batch, or one that waits to be in it.
///
/// The sampler and the text live as long as the answer. Blocks and what they hold can be lost and computed
/// again.
pub(crate) struct Row<'t, A> {
    /// Number of the request.
    pub(crate) request: u64,
    /// Index of the answer in the request.
    pub(crate) choice: usize,
    pub(crate) adapter: Option<Arc<Instance<A>>>,
    /// The prompt, then the generated tokens.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    /// Tokens whose keys and values are in the blocks.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<BlockId>,
    /// Blocks that were found in the cache or published in it, or stay private.
    pub(crate) settled: usize,
    pub(crate) keys: PrefixKeys,
    pub(crate) sampler: Sampler,
    pub(crate) text: AnswerText<'t>,
    pub(crate) stop_tokens: Arc<[u32]>,
    /// Tokens that may still be added.
    pub(crate) room: usize,
    /// Log-probabilities of each token.
    pub(crate) top: Option<usize>,
    /// Those of the prompt so far; `None` if they are not asked for, or have been sent.
    pub(crate) prompt_scores: Option<Vec<Token>>,
    /// Generated tokens, with the stop token.
    pub(crate) generated: usize,
    pub(crate) last_token: Option<Instant>,
    /// Why the answer is complete.
    pub(crate) finished: Option<FinishReason>,
}

impl<'t, A> Row<'t, A> {
    /// A row for an answer of a request.
    ///
    /// # Errors
    /// [`llama::Error::SamplingSetting`]
    pub(crate) fn new(
        (id, request): (u64, &GenerationRequest),
        choice: usize,
        adapter: Option<Arc<Instance<A>>>,
        stop_tokens: Arc<[u32]>,
        tokenizer: &'t Tokenizer,
    ) -> llama::Result<Self> {
        let mut sampler = Sampler::new(request.sampling.clone(), choice as u64)?;
        sampler.observe(&request.prompt);
        let identity = adapter.as_ref().map_or(0, |own| own.id);
        let scored = request.prompt_logprobs && choice == 0;
        let mut keys = PrefixKeys::new(identity);
        keys.extend(&request.prompt);
        Ok(Self {
            request: id,
            choice,
            adapter,
            tokens: request.prompt.clone(),
            prompt_len: request.prompt.len(),
            computed: 0,
            blocks: Vec::new(),
            settled: 0,
            keys,
            sampler,
            text: AnswerText::new(tokenizer, &request.stop_strings),
            stop_tokens,
            room: request.max_new_tokens,
            top: request.logprobs,
            prompt_scores: scored.then(Vec::new),
            generated: 0,
            last_token: None,
            finished: None,
        })
    }

    /// Whether all tokens but one, the newest, are computed, and that one was generated.
    pub(crate) fn is_decoding(&self) -> bool {
        self.computed + 1 == self.tokens.len() && self.computed >= self.prompt_len
    }

    /// Tokens that are still to be computed before the next one can be drawn.
    pub(crate) fn missing(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Blocks for all tokens and the next, but for no more than the answer can have.
    pub(crate) fn blocks_to_start(&self) -> usize {
        let most = self.tokens.len() + self.room;
        (self.tokens.len() + 1).min(most).div_ceil(BLOCK_TOKENS)
    }

    /// Whether the blocks have room for all tokens.
    pub(crate) fn has_room(&self) -> bool {
        self.blocks.len() * BLOCK_TOKENS >= self.tokens.len()
    }

    /// Tokens of the text that may come out of the cache, in whole blocks: at least the last token is
    /// computed, because the next one follows from it.
    pub(crate) fn reusable_blocks(&self, fixed_chunk: Option<usize>) -> usize {
        if self.prompt_scores.is_some() {
            return 0;
        }
        let len = self.tokens.len() - 1;
        match fixed_chunk {
            None => len / BLOCK_TOKENS,
            Some(chunk) => len.min(self.prompt_len) / chunk * (chunk / BLOCK_TOKENS),
        }
    }

    /// Blocks whose content others may use, once they are computed.
    pub(crate) fn shareable_blocks(&self, fixed_chunk: Option<usize>) -> usize {
        match fixed_chunk {
            None => self.tokens.len() / BLOCK_TOKENS,
            // A chunk with fewer tokens is computed in other shapes.
            Some(chunk) => self.prompt_len / chunk * (chunk / BLOCK_TOKENS),
        }
    }

    /// Publishes the blocks that are full and computed.
    pub(crate) fn publish(&mut self, blocks: &mut BlockAllocator, fixed_chunk: Option<usize>) {
        let full = (self.computed / BLOCK_TOKENS).min(self.shareable_blocks(fixed_chunk));
        if full <= self.settled {
            return;
        }
        self.keys.extend(&self.tokens);
        for place in self.settled..full {
            blocks.publish(self.blocks[place], self.keys.keys()[place]);
        }
        self.settled = full;
    }

    /// Gives all blocks back.
    pub(crate) fn release(&mut self, blocks: &mut BlockAllocator) {
        blocks.release(&std::mem::take(&mut self.blocks));
        self.computed = 0;
        self.settled = 0;
        if let Some(scores) = &mut self.prompt_scores {
            scores.clear();
        }
    }
}
