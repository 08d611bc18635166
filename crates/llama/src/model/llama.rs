//! tokens ─► embedding (+ positions) ─► layers ─► norm ─► hidden ─► head ─► logits

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{has_fused_attention, is_fused};

use super::adapter_hooks::Adapter;
use super::forward_context::ForwardContext;
use super::layer::Layer;
use super::linear::Linear;
use super::norm::{Norm, NormName};
use super::weight::Weight;
use crate::config::{LinearName, LlamaConfig};
use crate::error::{Error, Result};
use crate::precision::Precision;

/// A Llama-like language model.
///
/// It holds weights only. Caches, adapters and positions are arguments of
/// [`forward`](Self::forward).
#[derive(Module, Debug)]
pub struct Llama {
    /// `[vocab, d_model]`
    pub embedding: Weight,
    /// `[max_positions, d_model]`, if positions are learned.
    pub positions: Option<Weight>,
    /// From first to last.
    pub layers: Vec<Layer>,
    /// Final norm.
    pub norm: Norm,
    /// `d_model -> vocab`; `None` if it is tied to the embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    pub(crate) config: LlamaConfig,
    #[module(skip)]
    pub(crate) precision: Precision,
}

/// One model serves several threads.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Llama>();
};

impl Llama {
    /// Sizes and architecture.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Precision of the large matrices that the model was loaded in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of all matrices, which are nearly all of the model's memory.
    pub fn weight_bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::linears);
        let linears = layers.chain(&self.head).map(|linear| linear.weight.bytes());
        self.embedding.bytes() + linears.sum::<usize>()
    }

    /// The model with every matrix as a trainable parameter, to train all weights.
    pub fn into_parameters(mut self) -> Self {
        let make_parameter = |weight: &mut Weight| {
            let frozen = std::mem::replace(weight, Tensor::zeros([0, 0], &weight.device()).into());
            *weight = frozen.into_parameter();
        };
        make_parameter(&mut self.embedding);
        self.positions.iter_mut().for_each(make_parameter);
        self.layers
            .iter_mut()
            .flat_map(Layer::linears_mut)
            .for_each(|linear| make_parameter(&mut linear.weight));
        self.head.iter_mut().for_each(|head| make_parameter(&mut head.weight));
        self
    }

    /// Device of the weights.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Token ids as a tensor on the model's device, `[batch, seq]`.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id outside the vocabulary.
    ///
    /// # Panics
    /// If there are no rows or they differ in length.
    pub fn tokens(&self, rows: &[Vec<u32>]) -> Result<Tensor<2, Int>> {
        let (batch, seq) = (rows.len(), rows[0].len());
        assert!(rows.iter().all(|row| row.len() == seq), "rows differ in length");
        let vocab_size = self.config.vocab_size;
        let ids = rows.iter().flatten().map(|&id| {
            if (id as usize) < vocab_size {
                Ok(i64::from(id))
            } else {
                Err(Error::TokenId { id: id.into(), vocab_size })
            }
        });
        let ids = ids.collect::<Result<Vec<i64>>>()?;
        let device = self.device().without_autodiff();
        Ok(Tensor::from_data(TensorData::new(ids, [batch, seq]), &device))
    }

    /// Whether the model's device has all fused kernels: weights are packed, and a row's results depend
    /// on its own sequence alone.
    pub fn is_fused(&self) -> bool {
        is_fused(&self.device())
    }

    /// Whether attention to whole sequences is one operation. [`pack`](Self::pack) then needs no padding.
    pub fn has_fused_attention(&self) -> bool {
        has_fused_attention(&self.device(), self.config.attention_dims())
    }

    /// Input of the first layer.
    ///
    /// [`forward_context`](Self::forward_context), `embed`, [`layer`](Self::layer) and
    /// [`final_norm`](Self::final_norm) together are [`forward`](Self::forward) without a cache, for
    /// callers that stop between layers, such as activation checkpointing.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`, f32
    pub fn embed(&self, tokens: Tensor<2, Int>, context: &ForwardContext) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        let flat = tokens.reshape([batch * seq]);
        let hidden = self.embedding.select(flat).reshape([batch, seq, self.config.d_model]);
        match &context.position_embeddings {
            Some(positions) => hidden + positions.clone(),
            None => hidden,
        }
    }

    /// One layer of a pass over whole sequences without a cache.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`, f32
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        self.layers[index].forward(index, hidden, context, None, adapter)
    }

    /// The norm after the last layer.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`, f32
    pub fn final_norm(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let weight_override = adapter.norm(self.layers.len(), NormName::Final, &self.norm);
        self.norm.forward(hidden, weight_override)
    }

    /// Norms of a layer. The final norm has the number of layers as its layer.
    pub fn norms(&self, layer: usize) -> Vec<(NormName, &Norm)> {
        match self.layers.get(layer) {
            Some(layer) => vec![
                (NormName::Attention, &layer.attention_norm),
                (NormName::FeedForward, &layer.feed_forward_norm),
            ],
            None => vec![(NormName::Final, &self.norm)],
        }
    }

    /// Logits of every token of the vocabulary.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, the output of [`forward`](Self::forward) or some of its
    ///   positions
    /// - output: `[batch, seq, vocab]`, f32
    pub fn logits(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let layer = self.layers.len();
        let head = self.head();
        let adapted = adapter.linear(layer, LinearName::Head, &hidden, &head);
        adapted.unwrap_or_else(|| head.forward(hidden))
    }

    /// The output head; the embedding table if it is tied.
    pub fn head(&self) -> Linear {
        let tied = || Linear { weight: self.embedding.clone(), bias: None };
        self.head.clone().unwrap_or_else(tied)
    }
}
