//! tokens ─► embedding ─► layers ─► norm ─► hidden ─► head ─► logits

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::attention::{Pass, causal_mask};
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::precision::Precision;
use crate::rotary::Rotary;
use crate::seam::{Adapter, LinearName, NormName};
use crate::state::DecodingState;
use crate::weight::Weight;

/// A Llama-like language model. It holds weights and nothing else: caches, adapters and positions
/// are values that a caller hands to [`forward`](Self::forward).
#[derive(Module, Debug)]
pub struct Llama {
    /// `[vocab, d_model]`
    pub embedding: Weight,
    /// From the first to the last.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: RmsNorm,
    /// `d_model -> vocab`; `None` where the embedding table serves.
    pub head: Option<Linear>,
    #[module(skip)]
    config: LlamaConfig,
    #[module(skip)]
    precision: Precision,
}

impl Llama {
    pub(crate) fn assemble(
        config: LlamaConfig,
        precision: Precision,
        embedding: Weight,
        layers: Vec<Layer>,
        norm: RmsNorm,
        head: Option<Linear>,
    ) -> Self {
        Self { embedding, layers, norm, head, config, precision }
    }

    /// Sizes and arithmetic.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// What the large matrices were asked to be kept in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of the large matrices, which are nearly all there is.
    pub fn weight_bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::linears);
        let linears = layers.chain(&self.head).map(|linear| linear.weight.bytes());
        self.embedding.bytes() + linears.sum::<usize>()
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Token ids as a tensor on the model's device.
    ///
    /// # Errors
    /// [`Error::TokenId`] for an id outside the vocabulary.
    ///
    /// # Panics
    /// If the rows are not equally long, or there are none.
    pub fn tokens(&self, rows: &[Vec<u32>]) -> Result<Tensor<2, Int>> {
        let (batch, seq) = (rows.len(), rows[0].len());
        assert!(rows.iter().all(|row| row.len() == seq), "rows of unequal length");
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

    /// Runs the model over new tokens and gives the normed hidden states behind its last layer.
    ///
    /// Without a `state` the tokens are a whole text; with one they continue what it has seen.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`, f32
    ///
    /// # Errors
    /// [`Error::TooLong`] if the text passes the model's context or the state's room.
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        mut state: Option<&mut DecodingState>,
        adapter: &dyn Adapter,
    ) -> Result<Tensor<3>> {
        let [batch, seq] = tokens.dims();
        let pass = self.pass_after(batch, seq, state.as_deref())?;
        let mut hidden = self.embed(tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = state.as_mut().map(|state| state.layer(index));
            hidden = layer.forward(index, hidden, &pass, cache, adapter);
        }
        if let Some(state) = state {
            state.advance(seq);
        }
        Ok(self.finish(hidden, adapter))
    }

    /// What goes into the first layer.
    ///
    /// With [`pass`](Self::pass), [`layer`](Self::layer) and [`finish`](Self::finish) it makes up
    /// [`forward`](Self::forward) without a state, for those who stop in between.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`, f32
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        let flat = tokens.reshape([batch * seq]);
        self.embedding.select(flat).reshape([batch, seq, self.config.d_model])
    }

    /// What all layers share while they run over whole texts.
    ///
    /// # Errors
    /// [`Error::TooLong`] if `seq` passes the model's context.
    pub fn pass(&self, batch: usize, seq: usize) -> Result<Pass> {
        self.pass_after(batch, seq, None)
    }

    /// One layer of a pass over whole texts.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`, f32
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<3>,
        pass: &Pass,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        self.layers[index].forward(index, hidden, pass, None, adapter)
    }

    /// The norm behind the last layer.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`, f32
    pub fn finish(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let instead = adapter.norm(self.layers.len(), NormName::Final, &self.norm);
        self.norm.forward(hidden, instead)
    }

    /// Scores of every token of the vocabulary.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, as [`forward`](Self::forward) gives it, or any of its
    ///   positions
    /// - output: `[batch, seq, vocab]`, f32
    pub fn logits(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let layer = self.layers.len();
        if let Some(head) = &self.head {
            return adapter.linear(layer, LinearName::Head, hidden, head);
        }
        let tied = Linear { weight: self.embedding.clone(), bias: None };
        adapter.linear(layer, LinearName::Head, hidden, &tied)
    }

    /// Rotation and mask for the next `seq` tokens.
    fn pass_after(&self, batch: usize, seq: usize, state: Option<&DecodingState>) -> Result<Pass> {
        let device = self.device().without_autodiff();
        let rotary = Rotary::new(&self.config);
        let window = self.config.sliding_window;
        let Some(state) = state else {
            if seq > self.config.max_positions {
                return Err(Error::TooLong {
                    asked: seq,
                    what: "the model's context",
                    room: self.config.max_positions,
                });
            }
            return Ok(Pass {
                rotation: rotary.at(&[(0..seq).collect()], &device),
                mask: causal_mask(&[0], 0, seq, window, &device),
            });
        };
        let past = state.len();
        assert_eq!(state.padding().len(), batch, "the state was made for another batch");
        if past + seq > state.capacity() {
            return Err(Error::TooLong {
                asked: past + seq,
                what: "the decoding state",
                room: state.capacity(),
            });
        }
        let padding = state.padding();
        let rows = if padding.iter().all(|&row| row == padding[0]) { 1 } else { batch };
        let positions = padding[..rows]
            .iter()
            .map(|&padding| (past..past + seq).map(|slot| slot.saturating_sub(padding)).collect())
            .collect::<Vec<_>>();
        Ok(Pass {
            rotation: rotary.at(&positions, &device),
            mask: causal_mask(padding, past, seq, window, &device),
        })
    }
}
