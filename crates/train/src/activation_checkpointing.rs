//! Activation checkpointing: gradients with one layer's graph in memory at a time.
//!
//! ```text
//! forward, without autodiff:   tokens ─► layers, each adapted layer's input is kept ─► last hidden
//! head, with autodiff:         last hidden ─► norm ─► head ─► loss ─► gradient of the last hidden
//!                              (at the rows of labels only)
//! backward, layer by layer:    kept input ─► layer again, with autodiff ─► × gradient ─► backward
//!                              ─► gradients of the layer's adapter, and of its input
//! ```
//!
//! This costs one more forward pass. It keeps one hidden state per layer instead of all activations;
//! with a quantized base these would include the whole model in f32.
//!
//! Source: arXiv 1604.06174.

use adaption_prompt::{AdapterWeights, ImageBatch};
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use llama::{Adapter, Llama};

use crate::data::Batch;
use crate::error::Result;
use crate::loss::{LabeledHidden, loss_scale};
use crate::optim::ModuleGradients;
use crate::prefix_cache::PassInput;

/// An adapter that [`checkpointed_backward`] runs layer by layer.
struct LayerwiseAdapter<'a> {
    /// The first adapted layer; layers below it run only once.
    first_layer: usize,
    /// The adapter of all layers, without autodiff.
    without_autodiff: &'a dyn Adapter,
    /// The adapter of one layer, with autodiff. The index `n_layers` is the final norm and the head.
    layer: &'a dyn Fn(usize) -> Box<dyn Adapter + 'a>,
}

/// The loss of a batch and the gradients of an adapter, from the input of the pass, at most that of the
/// first adapted layer.
///
/// Returns the sum of the labels' losses divided by `labels`, in nats, `[1]`. The gradients are
/// multiplied by `scale`; above 1 it prevents underflow in an f16 base.
///
/// `accumulate` is called once per adapted layer, in descending order from `n_layers`, with the
/// gradients of the adapter that [`LayerwiseAdapter::layer`] returned for it.
fn checkpointed_backward(
    llama: &Llama,
    input: PassInput,
    labels: usize,
    scale: f64,
    adapter: &LayerwiseAdapter,
    accumulate: &mut dyn FnMut(&mut Gradients),
) -> Tensor<1> {
    let PassInput { batch, packed, layer, mut hidden } = input;
    let (label_rows, label_ids) =
        batch.label_tensors(&packed.token_rows, &llama.device().without_autodiff());
    let forward = |index, hidden, adapter: &dyn Adapter| {
        llama.layer_for_rows(index, hidden, &packed.context, &label_rows, adapter)
    };
    let n_layers = llama.layers.len();
    let first_layer = adapter.first_layer;

    let mut inputs = Vec::with_capacity(n_layers.saturating_sub(first_layer));
    for index in layer..n_layers {
        if index >= first_layer {
            inputs.push(hidden.clone());
        }
        hidden = forward(index, hidden, adapter.without_autodiff);
    }

    let head_adapter = (adapter.layer)(n_layers);
    let tracked = hidden.autodiff().require_grad();
    let normed = llama.final_norm(tracked.clone(), &*head_adapter);
    let labeled = LabeledHidden { hidden: normed, labels: label_ids };
    let loss = labeled.loss(llama, &*head_adapter) / labels.max(1) as f64;
    let value = loss.clone().inner();
    let mut gradients = (loss * scale).backward();
    accumulate(&mut gradients);
    let mut output_gradient = leaf_gradient(&tracked, &mut gradients);

    for (index, input) in (first_layer..n_layers).zip(inputs).rev() {
        let layer_adapter = (adapter.layer)(index);
        // The input of the first adapted layer needs no gradient.
        let input = if index == first_layer { input } else { input.autodiff().require_grad() };
        let output = forward(index, input.clone(), &*layer_adapter);
        // The gradient of this sum with respect to the output is the factor itself.
        let mut gradients = (output * Tensor::from_inner(output_gradient)).sum().backward();
        accumulate(&mut gradients);
        if index == first_layer {
            break;
        }
        output_gradient = leaf_gradient(&input, &mut gradients);
    }
    value
}

/// The loss of a batch, and with activation checkpointing the gradients of all parts of an adapter: adds
/// them to `gradients`.
///
/// Returns the sum of the labels' losses divided by `labels`, in nats, `[1]`. `images` are the images of
/// the batch's rows. Their projection is computed once: layers see it as a leaf, and its backward pass
/// comes last.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the batch is longer than the model's context.
pub fn checkpointed_adapter_backward(
    llama: &Llama,
    adapter: &AdapterWeights,
    batch: &Batch,
    images: Option<&ImageBatch>,
    labels: usize,
    gradients: &mut ModuleGradients,
) -> Result<Tensor<1>> {
    let input = PassInput::embed(llama, batch)?;
    Ok(checkpointed_adapter_backward_from(llama, adapter, input, images, labels, gradients))
}

/// As [`checkpointed_adapter_backward`], from the input of the pass, at most that of the first adapted
/// layer.
pub(crate) fn checkpointed_adapter_backward_from(
    llama: &Llama,
    adapter: &AdapterWeights,
    input: PassInput,
    images: Option<&ImageBatch>,
    labels: usize,
    gradients: &mut ModuleGradients,
) -> Tensor<1> {
    let image_features = images.and_then(|images| adapter.image_features(images));
    let plain =
        image_features.as_ref().map(|features| features.with_tokens(features.tokens().inner()));
    let tokens = plain.as_ref().map(|plain| plain.tokens().autodiff().require_grad());
    let tracked =
        plain.as_ref().zip(tokens.clone()).map(|(plain, tokens)| plain.with_tokens(tokens));
    let layerwise = LayerwiseAdapter {
        first_layer: adapter.first_layer(),
        without_autodiff: &adapter.valid().prepare_layers(llama, plain.as_ref(), |_| true),
        layer: &|index| {
            Box::new(adapter.prepare_layers(llama, tracked.as_ref(), |layer| layer == index))
        },
    };
    let scale = loss_scale(llama);
    let mut token_gradient: Option<Tensor<3>> = None;
    let mut accumulate = |layer_gradients: &mut Gradients| {
        gradients.accumulate(adapter, layer_gradients, scale);
        let more = tokens.as_ref().and_then(|tokens| tokens.grad_remove(layer_gradients));
        if let Some(more) = more {
            token_gradient = Some(match token_gradient.take() {
                Some(sum) => sum + more,
                None => more,
            });
        }
    };
    let loss = checkpointed_backward(llama, input, labels, scale, &layerwise, &mut accumulate);
    if let (Some(features), Some(gradient)) = (image_features, token_gradient)
        && features.tokens().device().is_autodiff()
    {
        let mut image_gradients =
            (features.tokens() * Tensor::from_inner(gradient)).sum().backward();
        gradients.accumulate(adapter, &mut image_gradients, scale);
    }
    loss
}

fn leaf_gradient(leaf: &Tensor<3>, gradients: &mut Gradients) -> Tensor<3> {
    leaf.grad_remove(gradients).expect("a leaf of the pass")
}
