//! Where the forward pass of a batch starts.

use burn::tensor::Tensor;
use llama::model::PackedBatch;
use llama::{Llama, NoAdapter};

use crate::data::Batch;
use crate::error::Result;

/// A batch, and the input of the first layer of its pass.
#[derive(Debug, Clone)]
pub(crate) struct PassInput<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// Its sequences, packed.
    pub packed: PackedBatch,
    /// The layer; 0 unless the hidden states below the first adapted layer are cached.
    pub layer: usize,
    /// Its input, without autodiff: `[1, rows, d_model]` or `[sequences, longest, d_model]`.
    pub hidden: Tensor<3>,
}

impl<'a> PassInput<'a> {
    /// The embeddings of a batch with its noise, for a pass through all layers.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the batch is longer than the model's context.
    pub fn embed(llama: &Llama, batch: &'a Batch) -> Result<Self> {
        let packed = llama.pack(&batch.inputs(), &batch.prefix_sharing())?;
        let mut hidden = llama.embed(packed.tokens.clone(), &packed.context);
        if let Some(noise) = &batch.noise {
            let (device, shape) = (llama.device().without_autodiff(), hidden.dims());
            hidden = hidden + noise.tensor(&packed.token_rows, shape, &device);
        }
        Ok(Self { batch, packed, layer: 0, hidden })
    }
}

/// The input of `layer`, from the layers below it without an adapter.
///
/// # Shapes
/// - output: `[1, rows, d_model]` or `[sequences, longest, d_model]`
pub(super) fn frozen_hidden(llama: &Llama, packed: &PackedBatch, layer: usize) -> Tensor<3> {
    let _span = tracing::trace_span!("layers below the first adapted one").entered();
    let mut hidden = llama.embed(packed.tokens.clone(), &packed.context);
    for index in 0..layer {
        hidden = llama.layer(index, hidden, &packed.context, &NoAdapter);
    }
    hidden
}
