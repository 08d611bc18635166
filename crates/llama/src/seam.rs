//! The one seam: what an adapter may do to a frozen model while it runs.
//!
//! ```text
//! hidden ─► norm ─► q k v ─► rotary ─┬─► attention ─┐
//!                                    └─► Adapter::attention ─► + ─► output projection
//! ```
//!
//! The model is never edited, wrapped or swapped: an adapter is a value handed to
//! [`Llama::forward`](crate::Llama::forward), so several can be in use at once.

use burn::tensor::Tensor;

/// A linear layer of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinearName {
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// Output projection of the attention.
    Output,
    /// Gate of the feed-forward.
    Gate,
    /// Upward projection of the feed-forward.
    Up,
    /// Downward projection of the feed-forward.
    Down,
}

/// A norm of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NormName {
    /// Before the attention.
    Attention,
    /// Before the feed-forward.
    FeedForward,
}

/// What joins a frozen model while it runs. Every method defaults to "nothing".
pub trait Adapter {
    /// What to add to the attention's heads before the output projection.
    ///
    /// # Shapes
    /// - `query`: `[batch, heads, seq, head_dim]`, f32, rotary embedding applied
    /// - output: as `query`
    fn attention(&self, layer: usize, query: &Tensor<4>) -> Option<Tensor<4>> {
        let _ = (layer, query);
        None
    }

    /// What a linear layer gives instead of `output`.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - `output` and result: `[batch, seq, out]`
    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        output: Tensor<3>,
    ) -> Tensor<3> {
        let _ = (layer, name, input);
        output
    }

    /// A weight that replaces a norm's own, `[d_model]`.
    fn norm(&self, layer: usize, name: NormName) -> Option<Tensor<1>> {
        let _ = (layer, name);
        None
    }
}

/// The base model alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAdapter;

impl Adapter for NoAdapter {}
