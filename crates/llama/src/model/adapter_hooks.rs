//! The one seam: what an adapter may do to a frozen model while it runs.
//!
//! ```text
//! hidden ─► norm ─► q k v ─► rotary ─┬─► attention to the text ────────┐
//!             │       │              └─► attention to Adapter::prompts ─► + ─► output projection
//!   Adapter::norm   Adapter::linear, in place of any linear layer
//! ```
//!
//! In GPT-2 the `+` is behind the output projection, see [`BranchPoint`](crate::BranchPoint): an adapter need
//! not know.
//!
//! The model is never edited, wrapped or swapped: an adapter is a value handed to
//! [`Llama::forward`](crate::Llama::forward), so several can be in use at once.

use burn::tensor::Tensor;
use kernels::GatedPrompt;
use serde::{Deserialize, Serialize};

use crate::linear::Linear;
use crate::norm::{Norm, NormName, NormWeights};

/// A linear layer of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearName {
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// Output projection of the attention.
    Output,
    /// Gate of the feed-forward, where it has one.
    Gate,
    /// Upward projection of the feed-forward.
    Up,
    /// Downward projection of the feed-forward.
    Down,
    /// Output head of the model. Its layer is the number of layers: it comes after all of them.
    Head,
}

impl LinearName {
    /// Those of a decoder layer, in the order of its pass.
    pub const ALL_IN_LAYER: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];
}

/// What joins a frozen model while it runs. Every method defaults to "nothing".
pub trait Adapter {
    /// Gated prompts that a layer's queries attend to, each beside the text and the others. What
    /// they give is added to the attention's heads before the output projection, or to what that
    /// gives, as the model's [`BranchPoint`](crate::BranchPoint) says.
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        let _ = layer;
        &[]
    }

    /// What a linear layer gives instead of its own product, where an adapter changes its input,
    /// its output or both; `None` where it does not, so that several layers can be one product.
    ///
    /// # Shapes
    /// - `input`: `[batch, seq, in]`
    /// - output: `[batch, seq, out]`
    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        let _ = (layer, name, input, linear);
        None
    }

    /// Weights that replace a norm's own.
    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let _ = (layer, name, norm);
        None
    }
}

impl<A: Adapter + ?Sized> Adapter for &A {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        (**self).prompts(layer)
    }

    fn linear(
        &self,
        layer: usize,
        name: LinearName,
        input: &Tensor<3>,
        linear: &Linear,
    ) -> Option<Tensor<3>> {
        (**self).linear(layer, name, input, linear)
    }

    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        (**self).norm(layer, name, norm)
    }
}

/// The base model alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAdapter;

impl Adapter for NoAdapter {}
