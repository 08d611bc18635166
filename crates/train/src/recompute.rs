//! Gradients with one layer's graph in memory at a time.
//!
//! ```text
//! up, without autodiff:  tokens ─► layers, each adapted layer's input is kept ─► last hidden
//! at the top:            last hidden as a leaf ─► norm ─► head ─► loss ─► its gradient
//! down, layer by layer:  kept input as a leaf ─► the layer again ─► × gradient ─► backward
//!                        ─► gradients of the layer's adapter, and of its input for the layer below
//! ```
//!
//! It costs one more forward pass, and keeps one hidden state a layer instead of everything that a
//! backward pass looks at. With a quantised base that would be the whole model in f32.
//!
//! Source: arXiv 1604.06174.

use adaption_prompt::{AdapterWeights, ImageBatch};
use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use llama::model::PackedBatch;
use llama::{Adapter, Llama};

use crate::batch::Batch;
use crate::error::Result;
use crate::loss::{loss_from_hidden, loss_scale};
use crate::optimizer::ModuleGradients;

/// An adapter, as [`recompute`] needs it.
pub struct LayerwiseAdapter<'a> {
    /// The first adapted layer; nothing below it is computed again.
    pub first_layer: usize,
    /// All of it, without autodiff.
    pub without_autodiff: &'a dyn Adapter,
    /// What joins one layer, with autodiff. The number of layers stands for what is behind the last
    /// one: final norm and head.
    pub layer: &'a dyn Fn(usize) -> Box<dyn Adapter + 'a>,
}

/// The sum of the labels' losses over `labels`, in nats, `[1]`, and the gradients of an adapter,
/// multiplied by `scale`: above 1 so that they do not vanish in an f16 base.
///
/// `take` is called once for every adapted layer, from the top down, beginning with the number of
/// layers, and finds there the gradients of what [`LayerwiseAdapter::layer`] gave for it.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the batch is longer than the model's context.
pub fn checkpointed_backward(
    llama: &Llama,
    batch: &Batch,
    labels: usize,
    scale: f64,
    adapter: &LayerwiseAdapter,
    take: &mut dyn FnMut(usize, &mut Gradients),
) -> Result<Tensor<1>> {
    let PackedBatch { tokens, context: pass, token_rows: rows } =
        llama.pack(&batch.inputs(), &batch.sharing())?;
    let n_layers = llama.layers.len();
    let first_layer = adapter.first_layer;

    let mut inputs = Vec::with_capacity(n_layers.saturating_sub(first_layer));
    let mut hidden = llama.embed(tokens, &pass);
    for index in 0..n_layers {
        if index >= first_layer {
            inputs.push(hidden.clone());
        }
        hidden = llama.layer(index, hidden, &pass, adapter.without_autodiff);
    }

    let top = (adapter.layer)(n_layers);
    let leaf = hidden.autodiff().require_grad();
    let normed = llama.final_norm(leaf.clone(), &*top);
    let loss = loss_from_hidden(llama, &*top, batch, &rows, normed) / labels.max(1) as f64;
    let value = loss.clone().inner();
    let mut gradients = (loss * scale).backward();
    take(n_layers, &mut gradients);
    let mut above = gradient(&leaf, &mut gradients);

    for (index, input) in (first_layer..n_layers).zip(inputs).rev() {
        let own = (adapter.layer)(index);
        // Below the first adapted layer nobody asks for a gradient.
        let input = if index == first_layer { input } else { input.autodiff().require_grad() };
        let output = llama.layer(index, input.clone(), &pass, &*own);
        // The gradient of this sum is the output's own, times what stands beside it.
        let mut gradients = (output * Tensor::from_inner(above)).sum().backward();
        take(index, &mut gradients);
        if index == first_layer {
            break;
        }
        above = gradient(&input, &mut gradients);
    }
    Ok(value)
}

/// Adds the gradients of an adapter's every part, and gives the loss, as [`recompute`] does.
///
/// `views` are the pictures that the batch's rows see. What is made of them is made once: layers
/// take it as a leaf, and its own backward pass comes last.
///
/// # Errors
/// As [`recompute`].
pub fn checkpointed_adapter_backward(
    llama: &Llama,
    adapter: &AdapterWeights,
    batch: &Batch,
    views: Option<&ImageBatch>,
    labels: usize,
    gradients: &mut ModuleGradients,
) -> Result<Tensor<1>> {
    let sight = views.and_then(|views| adapter.image_features(views));
    let plain = sight.as_ref().map(|sight| sight.with_tokens(sight.tokens().inner()));
    let tokens = plain.as_ref().map(|plain| plain.tokens().autodiff().require_grad());
    let leaf = plain.as_ref().zip(tokens.clone()).map(|(plain, tokens)| plain.with_tokens(tokens));
    let layerwise = LayerwiseAdapter {
        first_layer: adapter.first_layer(),
        without_autodiff: &adapter.valid().prepare_layers(llama, plain.as_ref(), |_| true),
        layer: &|index| {
            Box::new(adapter.prepare_layers(llama, leaf.as_ref(), |layer| layer == index))
        },
    };
    let scale = loss_scale(llama);
    let mut of_tokens: Option<Tensor<3>> = None;
    let mut take = |_layer, found: &mut Gradients| {
        gradients.accumulate(adapter, found, scale);
        let more = tokens.as_ref().and_then(|tokens| tokens.grad_remove(found));
        if let Some(more) = more {
            of_tokens = Some(match of_tokens.take() {
                Some(sum) => sum + more,
                None => more,
            });
        }
    };
    let loss = checkpointed_backward(llama, batch, labels, scale, &layerwise, &mut take)?;
    if let (Some(sight), Some(above)) = (sight, of_tokens)
        && sight.tokens().device().is_autodiff()
    {
        let mut found = (sight.tokens() * Tensor::from_inner(above)).sum().backward();
        gradients.accumulate(adapter, &mut found, scale);
    }
    Ok(loss)
}

fn gradient(leaf: &Tensor<3>, gradients: &mut Gradients) -> Tensor<3> {
    leaf.grad_remove(gradients).expect("a leaf of the pass")
}
