//! Adapter hooks: what an adapter can change in the forward pass of a frozen model.
//!
//! ```text
//! hidden ─► norm ─► q k v ─► rotary ─┬─► attention to the text ────────┐
//!             │       │              └─► attention to Adapter::prompts ─► + ─► output projection
//!   Adapter::norm   Adapter::linear, instead of any linear layer
//! ```
//!
//! [`Adapter`] is a trait with three methods, each of which changes nothing by default:
//!
//! - [`prompts`](Adapter::prompts): gated prompts that a layer's queries attend to in addition to the text;
//!   [`prompt_table`](Adapter::prompt_table) has them ready for a kernel
//! - [`linear`](Adapter::linear): the output of a linear layer that the adapter changes
//! - [`norm`](Adapter::norm): weights that replace those of a norm
//!
//! The model is never edited or wrapped. An adapter is an argument of
//! [`Llama::forward`](crate::Llama::forward), so one model serves several adapters at the same time, and
//! a program can implement the trait for its own methods.
//!
//! The first two hooks return data instead of computing the layer themselves. Attention knows its
//! prompts before it starts and computes text and prompt in one fused operation, and adjacent linear
//! layers that no adapter changes share one GEMM. A model without an adapter pays nothing for the hooks.
//!
//! Adding the prompt branch before the output projection equals PEFT's addition after it; with a biased
//! projection PEFT adds the bias twice, this crate once. GPT-2 is the exception: PEFT's branch does not
//! pass through the output projection, and adapters are trained that way.
//! [`BranchPoint`](crate::config::BranchPoint) in the model's config says which of the two holds, and
//! adapters need not know.

use burn::tensor::Tensor;
use kernels::{GatedPrompt, PromptTable};

use super::linear::Linear;
use super::norm::{Norm, NormName, NormWeights};
use crate::config::LinearName;

/// Changes to the forward pass of a frozen model. By default every method changes nothing.
///
/// ```
/// use burn::tensor::Tensor;
/// use llama::model::Linear;
/// use llama::{Adapter, LinearName};
///
/// /// Scales the outputs of all value projections.
/// struct ScaledValues(f64);
///
/// impl Adapter for ScaledValues {
///     fn linear(
///         &self,
///         _layer: usize,
///         name: LinearName,
///         input: &Tensor<3>,
///         linear: &Linear,
///     ) -> Option<Tensor<3>> {
///         (name == LinearName::Value).then(|| linear.forward(input.clone()) * self.0)
///     }
/// }
/// ```
pub trait Adapter {
    /// Gated prompts of a layer. Queries attend to each of them separately, with its own softmax, in
    /// addition to the text. The results are added to the attention heads before or after the output
    /// projection, depending on the model's [`BranchPoint`](crate::config::BranchPoint).
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        let _ = layer;
        &[]
    }

    /// The prompts of a layer as the fused attention with a cache reads them, for adapters that have packed
    /// them before; `None`: [`prompts`](Self::prompts) are packed for each pass.
    ///
    /// A table without ranges of prompts, [`PromptTable::of_sequence`], is one for every sequence: each of
    /// them attends to all its prompts.
    fn prompt_table(&self, layer: usize) -> Option<&PromptTable> {
        let _ = layer;
        None
    }

    /// Output of a linear layer whose input or output the adapter changes; `None` where it changes
    /// nothing, so that several layers can be computed as one GEMM.
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

    /// Weights that replace those of a norm. Norms of single queries and keys have no hook.
    fn norm(&self, layer: usize, name: NormName, norm: &Norm) -> Option<NormWeights> {
        let _ = (layer, name, norm);
        None
    }
}

impl<A: Adapter + ?Sized> Adapter for &A {
    fn prompts(&self, layer: usize) -> &[GatedPrompt] {
        (**self).prompts(layer)
    }

    fn prompt_table(&self, layer: usize) -> Option<&PromptTable> {
        (**self).prompt_table(layer)
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

/// No adapter: the base model alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAdapter;

impl Adapter for NoAdapter {}
