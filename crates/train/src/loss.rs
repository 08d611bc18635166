//! Hidden states at the rows of labels ─► output head ─► cross-entropy.

use burn::tensor::{Int, Tensor, activation::log_softmax};
use kernels::cross_entropy;
use llama::model::{PackedBatch, Weight};
use llama::{Adapter, LinearName, Llama, Precision, read_back};

use crate::data::Batch;
use crate::deterministic_sum::deterministic_sum;
use crate::error::Result;

/// Sum of the negative log-likelihoods of a batch's labels, in nats.
///
/// The last layer's feed-forward network, the final norm and the output head run at the rows of
/// labels only.
///
/// # Shapes
/// - output: `[1]`
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the batch is longer than the model's context.
pub fn label_loss(llama: &Llama, adapter: &dyn Adapter, batch: &Batch) -> Result<Tensor<1>> {
    Ok(LabeledHidden::forward(llama, adapter, batch)?.loss(llama, adapter))
}

/// The factor of a loss before its backward pass; gradients are divided by it after the pass.
///
/// f16 has no value below 6e-8, and gradients of hidden states often are: they would become zero in
/// the matmuls of an f16 base. A power of two changes nothing else.
///
/// Source: arXiv 1710.03740, section 3.2.
pub(crate) fn loss_scale(llama: &Llama) -> f64 {
    if llama.precision() == Precision::F16 { 1024.0 } else { 1.0 }
}

/// Sum of the log-likelihoods of each sequence's labels, in nats.
///
/// # Errors
/// As [`label_loss`]; [`Error::Model`](crate::Error::Model) if the device fails.
pub(crate) fn sequence_log_likelihoods(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
) -> Result<Vec<f64>> {
    let labeled = LabeledHidden::forward(llama, adapter, batch)?;
    let logits = llama.logits(labeled.hidden.clone(), adapter);
    let log_likelihoods = read_back(labeled.log_likelihoods(logits))?;
    let mut sums = vec![0.0; batch.tokens.len()];
    for (row, value) in batch.label_rows().zip(log_likelihoods.iter::<f32>()) {
        sums[row] += f64::from(value);
    }
    Ok(sums)
}

/// Input of the first layer, with the noise of a training batch.
///
/// # Shapes
/// - output: `[batch, seq, d_model]`
pub(crate) fn embed(llama: &Llama, batch: &Batch, packed: &PackedBatch) -> Tensor<3> {
    let hidden = llama.embed(packed.tokens.clone(), &packed.context);
    match &batch.noise {
        Some(noise) => {
            let device = llama.device().without_autodiff();
            let shape = hidden.dims();
            hidden + noise.tensor(&packed.token_rows, shape, &device)
        }
        None => hidden,
    }
}

/// The hidden states that predict labels.
pub(crate) struct LabeledHidden {
    /// After the final norm, `[1, labels, d_model]`.
    pub hidden: Tensor<3>,
    /// `[labels]`
    pub labels: Tensor<1, Int>,
}

impl LabeledHidden {
    /// A forward pass without the output head.
    fn forward(llama: &Llama, adapter: &dyn Adapter, batch: &Batch) -> Result<Self> {
        let packed = llama.pack(&batch.inputs(), &batch.prefix_sharing())?;
        let device = llama.device().without_autodiff();
        let (rows, labels) = batch.label_tensors(&packed.token_rows, &device);
        let hidden = embed(llama, batch, &packed);
        Ok(Self { hidden: llama.forward_from(0, hidden, &packed.context, &rows, adapter), labels })
    }

    /// Sum of the negative log-likelihoods, `[1]`.
    pub fn loss(self, llama: &Llama, adapter: &dyn Adapter) -> Tensor<1> {
        let head = llama.head();
        let adapted_logits =
            adapter.linear(llama.layers.len(), LinearName::Head, &self.hidden, &head);
        if let (Weight::Packed(weight), None, None) = (&head.weight, &head.bias, &adapted_logits) {
            let [_one, count, d_model] = self.hidden.dims();
            let hidden = self.hidden.reshape([count, d_model]);
            return cross_entropy(hidden, weight, self.labels);
        }
        let logits = adapted_logits.unwrap_or_else(|| head.forward(self.hidden.clone()));
        deterministic_sum(self.log_likelihoods(logits)).neg()
    }

    /// `[1, labels, vocab] -> [labels]`
    fn log_likelihoods(self, logits: Tensor<3>) -> Tensor<1> {
        let [count] = self.labels.dims();
        let chosen = log_softmax(logits, 2).gather(2, self.labels.reshape([1, count, 1]));
        chosen.reshape([count])
    }
}
