//! hidden ─► rows of labelled positions ─► head ─► cross-entropy

use burn::tensor::{Int, Tensor, activation::log_softmax};
use kernels::cross_entropy;
use llama::model::Weight;
use llama::{Adapter, LinearName, Llama, Precision, read_back};

use crate::batch::Batch;
use crate::error::Result;
use crate::sum::deterministic_sum;

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
    let texts = llama.pack(&batch.inputs(), &batch.sharing())?;
    let hidden = llama.forward_packed(&texts, adapter);
    Ok(loss_from_hidden(llama, adapter, batch, &texts.token_rows, hidden))
}

/// What a loss is multiplied by before its backward pass, and gradients divided by behind it.
///
/// Half precision has no number below 6e-8, and gradients of hidden states often are: they would
/// vanish in the products of an f16 base. A power of two changes nothing else.
///
/// Source: arXiv 1710.03740, section 3.2.
pub(crate) fn loss_scale(llama: &Llama) -> f64 {
    if llama.precision() == Precision::F16 { 1024.0 } else { 1.0 }
}

/// The same of what [`Llama::run`] gives, for texts whose tokens are in `text_rows`.
///
/// # Shapes
/// - `hidden`: `[1, all tokens, d_model]` or `[texts, longest, d_model]`
/// - output: `[1]`
pub(crate) fn loss_from_hidden(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
    text_rows: &[Vec<usize>],
    hidden: Tensor<3>,
) -> Tensor<1> {
    let labelled = Labelled::new(llama, batch, text_rows, hidden);
    let head = llama.head();
    let changed = adapter.linear(llama.layers.len(), LinearName::Head, &labelled.hidden, &head);
    if let (Weight::Packed(weight), None, None) = (&head.weight, &head.bias, &changed) {
        let [_one, count, d_model] = labelled.hidden.dims();
        let hidden = labelled.hidden.reshape([count, d_model]);
        return cross_entropy(hidden, weight, labelled.labels);
    }
    let logits = changed.unwrap_or_else(|| head.forward(labelled.hidden.clone()));
    deterministic_sum(labelled.log_probabilities(logits)).neg()
}

/// Natural logarithm of the likelihood of each text's labels together, text by text.
///
/// # Errors
/// As [`label_loss`]; [`Error::Model`](crate::Error::Model) if the device fails.
pub(crate) fn sequence_log_likelihoods(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
) -> Result<Vec<f64>> {
    let texts = llama.pack(&batch.inputs(), &batch.sharing())?;
    let hidden = llama.forward_packed(&texts, adapter);
    let labelled = Labelled::new(llama, batch, &texts.token_rows, hidden);
    let logits = llama.logits(labelled.hidden.clone(), adapter);
    let found = read_back(labelled.log_probabilities(logits))?;
    let mut sums = vec![0.0; batch.texts.len()];
    for (text, value) in batch.label_rows().zip(found.iter::<f32>()) {
        sums[text] += f64::from(value);
    }
    Ok(sums)
}

/// Hidden states from which labels are predicted.
struct Labelled {
    /// `[1, labels, d_model]`
    hidden: Tensor<3>,
    /// `[labels]`
    labels: Tensor<1, Int>,
}

impl Labelled {
    fn new(llama: &Llama, batch: &Batch, text_rows: &[Vec<usize>], hidden: Tensor<3>) -> Self {
        let [rows, seq, d_model] = hidden.dims();
        let (positions, labels) = batch.labels(text_rows, &llama.device().without_autodiff());
        let hidden = hidden.reshape([1, rows * seq, d_model]).select(1, positions);
        Self { hidden, labels }
    }

    /// `[1, labels, vocab] -> [labels]`
    fn log_probabilities(self, logits: Tensor<3>) -> Tensor<1> {
        let [count] = self.labels.dims();
        let chosen = log_softmax(logits, 2).gather(2, self.labels.reshape([1, count, 1]));
        chosen.reshape([count])
    }
}
