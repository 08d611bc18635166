//! hidden ─► rows of labelled positions ─► head ─► cross-entropy

use burn::tensor::{Tensor, activation::log_softmax};
use llama::{Adapter, Llama, Precision};

use crate::batch::Batch;
use crate::error::Result;

/// Sum of the labels' negative log-likelihoods, in nats.
///
/// The head, which is the widest product of a small model, runs at the labelled positions only.
///
/// # Shapes
/// - output: `[1]`
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the batch is longer than the model's context.
pub fn label_loss(llama: &Llama, adapter: &dyn Adapter, batch: &Batch) -> Result<Tensor<1>> {
    let tokens = llama.tokens(&batch.tokens)?;
    Ok(hidden_loss(llama, adapter, batch, llama.forward(tokens, None, adapter)?))
}

/// What a loss is multiplied by before its backward pass, and gradients divided by behind it.
///
/// Half precision has no number below 6e-8, and gradients of hidden states often are: they would
/// vanish in the products of an f16 base. A power of two changes nothing else.
///
/// Source: arXiv 1710.03740, section 3.2.
pub(crate) fn gradient_scale(llama: &Llama) -> f64 {
    if llama.precision() == Precision::F16 { 1024.0 } else { 1.0 }
}

/// The same of what [`Llama::forward`] gives.
///
/// # Shapes
/// - `hidden`: `[batch, seq, d_model]`
/// - output: `[1]`
pub(crate) fn hidden_loss(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
    hidden: Tensor<3>,
) -> Tensor<1> {
    let [rows, seq, d_model] = hidden.dims();
    let (positions, labels) = batch.labels(&llama.device().without_autodiff());
    let labelled = hidden.reshape([1, rows * seq, d_model]).select(1, positions);
    let log_probabilities = log_softmax(llama.logits(labelled, adapter), 2);
    let [count] = labels.dims();
    log_probabilities.gather(2, labels.reshape([1, count, 1])).sum().neg()
}
