//! What the scheduler needs of a model: one pass over some rows.

use llama::sampling::Sampler;

use super::blocks::BlockId;
use super::request::Token;

/// A model with a cache in blocks.
pub(crate) trait StepModel {
    /// A prepared adapter.
    type Adapter: Send + Sync + 'static;

    /// Sizes of the model and its cache.
    fn spec(&self) -> CacheSpec;

    /// Computes new tokens of some rows, adds them to the cache, and draws the next token of those that
    /// ask for it. What a row gets depends on nothing but its own tokens and adapter.
    ///
    /// # Errors
    /// Outside, of the whole pass: the cache is unusable then. Inside, of one row alone.
    fn pass(
        &mut self,
        rows: &mut [PassRow<'_, Self::Adapter>],
    ) -> llama::Result<Vec<llama::Result<RowOutput>>>;

    /// Makes the cache anew, after a pass that failed.
    fn reset(&mut self);
}

/// Sizes of a model and its cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheSpec {
    /// Blocks of the cache.
    pub(crate) blocks: usize,
    /// Tokens of a prompt in a pass, where products depend on the shape of the pass. Such devices run
    /// decoding rows and the chunk of one prompt in passes of their own; a chunk starts at a multiple of
    /// its length; and a row that lost its cache repeats the same passes.
    pub(crate) fixed_chunk: Option<usize>,
}

/// New tokens of one row in a pass.
pub(crate) struct PassRow<'a, A> {
    /// Tokens of the row's prompt, in this pass or not.
    pub(crate) prompt_len: usize,
    /// The new tokens, at least one.
    pub(crate) tokens: &'a [u32],
    /// Tokens before them, which the blocks hold.
    pub(crate) past: usize,
    /// Blocks of the row's tokens in order, with room for the new ones.
    pub(crate) blocks: &'a [BlockId],
    /// The adapter.
    pub(crate) adapter: Option<&'a A>,
    /// How to draw the token after the last, if it is wanted.
    pub(crate) sampler: Option<&'a mut Sampler>,
    /// The tokens that follow the new ones, each of which gets a log-probability: none, one fewer than
    /// the new tokens, or as many.
    pub(crate) targets: &'a [u32],
    /// Log-probabilities of this many tokens beside each drawn or followed one; `None` for none at all.
    pub(crate) top: Option<usize>,
}

impl<A> PassRow<'_, A> {
    /// Whether the row reads its prompt, rather than its own tokens.
    pub(crate) fn is_prompt(&self) -> bool {
        self.past < self.prompt_len
    }
}

/// What a pass gives for a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowOutput {
    /// The drawn token.
    pub(crate) next: Option<Token>,
    /// Log-probabilities of the row's targets.
    pub(crate) targets: Vec<Token>,
}
