//! tokens ─► embedding (+ positions) ─► layers ─► norm ─► hidden ─► head ─► logits

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{RotaryTable, Sequence, SequenceLayout, is_fused};

use crate::attention::{ForwardContext, causal_mask};
use crate::config::{LlamaConfig, PositionEmbedding};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::norm::NormName;
use crate::precision::Precision;
use crate::rotary::Rotary;
use crate::seam::{Adapter, LinearName};
use crate::state::KvCache;
use crate::weight::Weight;

/// A Llama-like language model. It holds weights and nothing else: caches, adapters and positions
/// are values that a caller hands to [`forward`](Self::forward).
#[derive(Module, Debug)]
pub struct Llama {
    /// `[vocab, d_model]`
    pub embedding: Weight,
    /// `[max_positions, d_model]`, where positions are learned.
    pub positions: Option<Weight>,
    /// From the first to the last.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: Norm,
    /// `d_model -> vocab`; `None` where the embedding table serves.
    pub head: Option<Linear>,
    #[module(skip)]
    pub(crate) config: LlamaConfig,
    #[module(skip)]
    pub(crate) precision: Precision,
}

impl Llama {
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

    /// The same model with every matrix a parameter, which can learn.
    pub fn into_parameters(mut self) -> Self {
        let learning = |weight: &mut Weight| {
            let frozen = std::mem::replace(weight, Tensor::zeros([0, 0], &weight.device()).into());
            *weight = frozen.into_parameter();
        };
        learning(&mut self.embedding);
        self.positions.iter_mut().for_each(learning);
        self.layers
            .iter_mut()
            .flat_map(Layer::linears_mut)
            .for_each(|own| learning(&mut own.weight));
        self.head.iter_mut().for_each(|head| learning(&mut head.weight));
        self
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

    /// Whether attention and products are fused on this model's device: texts need no padding then
    /// ([`pack`](Self::pack)).
    pub fn is_fused(&self) -> bool {
        is_fused(&self.device())
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
        mut state: Option<&mut KvCache>,
        adapter: &dyn Adapter,
    ) -> Result<Tensor<3>> {
        let [batch, seq] = tokens.dims();
        let pass = self.pass_after(batch, seq, state.as_deref())?;
        let mut hidden = self.embed(tokens, &pass);
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = state.as_mut().map(|state| state.layer(index));
            hidden = layer.forward(index, hidden, &pass, cache, adapter);
        }
        if let Some(state) = state {
            state.advance(seq);
        }
        Ok(self.final_norm(hidden, adapter))
    }

    /// What goes into the first layer.
    ///
    /// With [`pass`](Self::pass), [`layer`](Self::layer) and [`finish`](Self::finish) it makes up
    /// [`forward`](Self::forward) without a state, for those who stop in between.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`, f32
    pub fn embed(&self, tokens: Tensor<2, Int>, pass: &ForwardContext) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        let flat = tokens.reshape([batch * seq]);
        let hidden = self.embedding.select(flat).reshape([batch, seq, self.config.d_model]);
        match &pass.positions {
            Some(positions) => hidden + positions.clone(),
            None => hidden,
        }
    }

    /// What all layers share while they run over whole texts.
    ///
    /// # Errors
    /// [`Error::TooLong`] if `seq` passes the model's context.
    pub fn forward_context(&self, batch: usize, seq: usize) -> Result<ForwardContext> {
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
        pass: &ForwardContext,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        self.layers[index].forward(index, hidden, pass, None, adapter)
    }

    /// The norm behind the last layer.
    ///
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`, f32
    pub fn final_norm(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let instead = adapter.norm(self.layers.len(), NormName::Final, &self.norm);
        self.norm.forward(hidden, instead)
    }

    /// Norms of a layer; of the layer behind the last one, the final norm.
    pub fn norms(&self, layer: usize) -> Vec<(NormName, &Norm)> {
        match self.layers.get(layer) {
            Some(layer) => vec![
                (NormName::Attention, &layer.attention_norm),
                (NormName::FeedForward, &layer.feed_forward_norm),
            ],
            None => vec![(NormName::Final, &self.norm)],
        }
    }

    /// Scores of every token of the vocabulary.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, as [`forward`](Self::forward) gives it, or any of its
    ///   positions
    /// - output: `[batch, seq, vocab]`, f32
    pub fn logits(&self, hidden: Tensor<3>, adapter: &dyn Adapter) -> Tensor<3> {
        let layer = self.layers.len();
        let head = self.head();
        let changed = adapter.linear(layer, LinearName::Head, &hidden, &head);
        changed.unwrap_or_else(|| head.forward(hidden))
    }

    /// The output head; the embedding table, where that serves.
    pub fn head(&self) -> Linear {
        let tied = || Linear { weight: self.embedding.clone(), bias: None };
        self.head.clone().unwrap_or_else(tied)
    }

    /// Rotation, positions and masks of the next `seq` tokens.
    fn pass_after(
        &self,
        batch: usize,
        seq: usize,
        state: Option<&KvCache>,
    ) -> Result<ForwardContext> {
        let positions = self.places(batch, seq, state)?;
        if self.is_fused() {
            let sequence = |row: usize| Sequence {
                first_row: row * seq,
                len: seq,
                past: state.map_or(0, KvCache::len),
                padding: state.map_or(0, |state| state.padding()[row]),
            };
            let sequences = (0..batch).map(sequence).collect::<Vec<_>>();
            let rows = batch * seq;
            let turns = self.turns(positions.iter().flatten().copied().cycle().take(rows));
            let texts = SequenceLayout {
                sequences: Arc::new(sequences),
                token_rows: None,
                rotary_table: turns,
            };
            return Ok(self.fused_context(texts, &positions));
        }
        let device = self.device().without_autodiff();
        let (past, padding) = state.map_or((0, &[0][..]), |state| (state.len(), state.padding()));
        let mask = |window| causal_mask(padding, past, seq, window, &device);
        let rotary = self.config.positions == PositionEmbedding::Rotary;
        Ok(ForwardContext {
            texts: None,
            rotation: rotary.then(|| Rotary::new(&self.config).at(&positions, &device)),
            positions: self.positions.as_ref().map(|table| self.learned(table, &positions)),
            mask: mask(self.config.sliding_window),
            full_attention_mask: if self.config.full_attention_layers > 0 {
                mask(None)
            } else {
                None
            },
            full_attention_layers: self.config.full_attention_layers,
        })
    }

    /// A pass for fused attention; `positions` are those of all rows, or one list for each text.
    pub(crate) fn fused_context(
        &self,
        texts: SequenceLayout,
        positions: &[Vec<usize>],
    ) -> ForwardContext {
        ForwardContext {
            texts: Some(texts),
            rotation: None,
            positions: self.positions.as_ref().map(|table| self.learned(table, positions)),
            mask: None,
            full_attention_mask: None,
            full_attention_layers: 0,
        }
    }

    /// The turns of rows at `positions`, where positions turn queries and keys.
    pub(crate) fn turns(&self, positions: impl Iterator<Item = usize>) -> Option<Arc<RotaryTable>> {
        let rotary = self.config.positions == PositionEmbedding::Rotary;
        rotary.then(|| Arc::new(Rotary::new(&self.config).turns(positions)))
    }

    pub(crate) fn check_context_length(&self, seq: usize) -> Result<()> {
        let room = self.config.max_positions;
        if seq > room {
            return Err(Error::SequenceTooLong {
                asked: seq,
                what: "the model's context",
                capacity: room,
            });
        }
        Ok(())
    }

    /// Embeddings of positions, `[batch or 1, seq, d_model]`.
    fn learned(&self, table: &Weight, positions: &[Vec<usize>]) -> Tensor<3> {
        // A row that has reached the end of the context waits for the others in its batch.
        let last = self.config.max_positions - 1;
        let ids = positions.iter().flatten().map(|&at| at.min(last) as i64).collect::<Vec<_>>();
        let (rows, seq) = (positions.len(), positions[0].len());
        let data = TensorData::new(ids, [rows * seq]);
        let ids = Tensor::from_data(data, &self.device().without_autodiff());
        table.select(ids).reshape([rows, seq, self.config.d_model])
    }

    /// Positions of the next `seq` tokens: one list for all rows, or one a row.
    fn places(&self, batch: usize, seq: usize, state: Option<&KvCache>) -> Result<Vec<Vec<usize>>> {
        let Some(state) = state else {
            self.check_context_length(seq)?;
            return Ok(vec![(0..seq).collect()]);
        };
        let past = state.len();
        assert_eq!(state.padding().len(), batch, "the state was made for another batch");
        if past + seq > state.capacity() {
            return Err(Error::SequenceTooLong {
                asked: past + seq,
                what: "the decoding state",
                capacity: state.capacity(),
            });
        }
        let padding = state.padding();
        let rows = if padding.iter().all(|&row| row == padding[0]) { 1 } else { batch };
        let row = |&padding: &usize| {
            (past..past + seq).map(|slot| slot.saturating_sub(padding)).collect::<Vec<_>>()
        };
        Ok(padding[..rows].iter().map(row).collect())
    }
}
