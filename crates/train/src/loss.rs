//! hidden ─► rows of labelled positions ─► head ─► cross-entropy

use burn::tensor::{Tensor, activation::log_softmax};
use kernels::cross_entropy;
use llama::{Adapter, LinearName, Llama, Precision, Weight};

use crate::batch::Batch;
use crate::error::Result;
use crate::sum::sum_in_order;

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
    let texts = llama.lay_out(&batch.inputs())?;
    let hidden = llama.run(&texts, adapter);
    Ok(hidden_loss(llama, adapter, batch, &texts.rows, hidden))
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

/// The same of what [`Llama::run`] gives, for texts whose tokens are in `text_rows`.
///
/// # Shapes
/// - `hidden`: `[1, all tokens, d_model]` or `[texts, longest, d_model]`
/// - output: `[1]`
pub(crate) fn hidden_loss(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
    text_rows: &[Vec<usize>],
    hidden: Tensor<3>,
) -> Tensor<1> {
    let [rows, seq, d_model] = hidden.dims();
    let (positions, labels) = batch.labels(text_rows, &llama.device().without_autodiff());
    let labelled = hidden.reshape([1, rows * seq, d_model]).select(1, positions);
    let [count] = labels.dims();
    let head = llama.head();
    let logits = match adapter.linear(llama.layers.len(), LinearName::Head, &labelled, &head) {
        Some(changed) => changed,
        None => match (&head.weight, &head.bias) {
            (Weight::Packed(weight), None) => {
                return cross_entropy(labelled.reshape([count, d_model]), weight, labels);
            }
            _ => head.forward(labelled),
        },
    };
    let log_probabilities = log_softmax(logits, 2);
    let chosen = log_probabilities.gather(2, labels.reshape([1, count, 1]));
    sum_in_order(chosen.reshape([count])).neg()
}
