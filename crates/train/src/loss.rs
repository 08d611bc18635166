//! Hidden states at the rows of labels ─► output head ─► cross-entropy.

use burn::tensor::{DType, Int, Tensor, activation::log_softmax};
use kernels::{GpuKernel, cross_entropy, dense_cross_entropy, has_gpu_kernel};
use llama::model::Weight;
use llama::{Adapter, LinearName, Llama, Precision};

use crate::data::Batch;
use crate::deterministic_sum::deterministic_sum;
use crate::error::Result;
use crate::prefix_cache::PassInput;

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
    Ok(label_loss_from(llama, adapter, PassInput::embed(llama, batch)?))
}

/// As [`label_loss`], from the input of the pass.
pub(crate) fn label_loss_from(llama: &Llama, adapter: &dyn Adapter, input: PassInput) -> Tensor<1> {
    LabeledHidden::forward(llama, adapter, input).loss(llama, adapter)
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

/// The loss of each sequence: the sum of the negative log-likelihoods of its labels, in nats.
///
/// The output head runs for one sequence at a time, so that the logits of a batch need no more memory
/// than those of its longest one.
///
/// # Shapes
/// - output: `[sequences]`
///
/// # Errors
/// As [`label_loss`].
pub(crate) fn sequence_losses(
    llama: &Llama,
    adapter: &dyn Adapter,
    batch: &Batch,
) -> Result<Tensor<1>> {
    let LabeledHidden { hidden, labels } =
        LabeledHidden::forward(llama, adapter, PassInput::embed(llama, batch)?);
    let mut first = 0;
    let losses = batch.label_counts().into_iter().map(|count| {
        if count == 0 {
            return Tensor::zeros([1], &hidden.device());
        }
        let own = LabeledHidden {
            hidden: hidden.clone().narrow(1, first, count),
            labels: labels.clone().narrow(0, first, count),
        };
        first += count;
        own.loss(llama, adapter)
    });
    Ok(Tensor::cat(losses.collect(), 0))
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
    fn forward(llama: &Llama, adapter: &dyn Adapter, input: PassInput) -> Self {
        let PassInput { batch, packed, layer, hidden } = input;
        let device = llama.device().without_autodiff();
        let (rows, labels) = batch.label_tensors(&packed.token_rows, &device);
        let hidden = llama.forward_from(layer, hidden, &packed.context, &rows, adapter);
        Self { hidden, labels }
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
        if let (Some(weight), None, None) =
            (fused_dense_head(&head.weight), &head.bias, &adapted_logits)
        {
            let [_one, count, d_model] = self.hidden.dims();
            let hidden = self.hidden.reshape([count, d_model]);
            return dense_cross_entropy(hidden, weight, self.labels);
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

/// The head as the fused kernel of a GPU takes it: a tensor in f32 without gradients.
fn fused_dense_head(head: &Weight) -> Option<Tensor<2>> {
    let Weight::Dense(weight) = head else { return None };
    let weight = weight.val();
    let device = weight.device();
    let is_frozen = weight.dtype() == DType::F32 && !device.is_autodiff();
    (is_frozen && has_gpu_kernel(&device, GpuKernel::CrossEntropy)).then_some(weight)
}
