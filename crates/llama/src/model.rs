//! tokens ─► embedding (+ positions) ─► layers ─► norm ─► hidden ─► head ─► logits

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::attention::{Pass, causal_mask};
use crate::config::{LlamaConfig, Positions};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::rotary::Rotary;
use crate::seam::{Adapter, LinearName, NormName};
use crate::state::DecodingState;

/// A Llama-like language model. It holds weights and nothing else: caches, adapters and positions
/// are values that a caller hands to [`forward`](Self::forward).
#[derive(Module, Debug)]
pub struct Llama {
    /// `[vocab, d_model]`
    pub embedding: Param<Tensor<2>>,
    /// `[max_positions, d_model]`, where positions are learned.
    pub positions: Option<Param<Tensor<2>>>,
    /// From the first to the last.
    pub layers: Vec<Layer>,
    /// After the last layer.
    pub norm: Norm,
    /// `d_model -> vocab`; `None` where the embedding table serves.
    pub head: Option<Linear>,
    #[module(skip)]
    pub(crate) config: LlamaConfig,
}

impl Llama {
    /// Sizes and arithmetic.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.embedding.val().device()
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
        let positions = self.places(batch, seq, state.as_deref())?;
        let pass = self.pass(seq, &positions, state.as_deref());
        let mut hidden = select(&self.embedding, tokens);
        if let Some(table) = &self.positions {
            hidden = hidden + select(table, self.position_ids(&positions));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = state.as_mut().map(|state| state.layer(index));
            hidden = layer.forward(index, hidden, &pass, cache, adapter);
        }
        if let Some(state) = state {
            state.advance(seq);
        }
        let instead = adapter.norm(self.layers.len(), NormName::Final, &self.norm);
        Ok(self.norm.forward(hidden, instead))
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

    /// Positions of the next `seq` tokens: one list for all rows, or one a row.
    fn places(
        &self,
        batch: usize,
        seq: usize,
        state: Option<&DecodingState>,
    ) -> Result<Vec<Vec<usize>>> {
        let Some(state) = state else {
            if seq > self.config.max_positions {
                return Err(Error::TooLong {
                    asked: seq,
                    what: "the model's context",
                    room: self.config.max_positions,
                });
            }
            return Ok(vec![(0..seq).collect()]);
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
        let row = |&padding: &usize| {
            (past..past + seq).map(|slot| slot.saturating_sub(padding)).collect::<Vec<_>>()
        };
        Ok(padding[..rows].iter().map(row).collect())
    }

    /// Rotation and masks of a pass.
    fn pass(&self, seq: usize, positions: &[Vec<usize>], state: Option<&DecodingState>) -> Pass {
        let device = self.device().without_autodiff();
        let (past, padding) = state.map_or((0, &[0][..]), |state| (state.len(), state.padding()));
        let mask = |window| causal_mask(padding, past, seq, window, &device);
        let rotary = self.config.positions == Positions::Rotary;
        Pass {
            rotation: rotary.then(|| Rotary::new(&self.config).at(positions, &device)),
            mask: mask(self.config.sliding_window),
            full_mask: if self.config.full_layers > 0 { mask(None) } else { None },
            full_layers: self.config.full_layers,
        }
    }

    /// `[batch or 1, seq]`
    fn position_ids(&self, positions: &[Vec<usize>]) -> Tensor<2, Int> {
        // A row that has reached the end of the context waits for the others in its batch.
        let last = self.config.max_positions - 1;
        let ids = positions.iter().flatten().map(|&at| at.min(last) as i64).collect::<Vec<_>>();
        let data = TensorData::new(ids, [positions.len(), positions[0].len()]);
        Tensor::from_data(data, &self.device().without_autodiff())
    }
}

/// Rows of a table: `[batch, seq] -> [batch, seq, d_model]`, f32.
fn select(table: &Param<Tensor<2>>, ids: Tensor<2, Int>) -> Tensor<3> {
    let [batch, seq] = ids.dims();
    let table = table.val();
    let [_rows, d_model] = table.dims();
    table.select(0, ids.reshape([batch * seq])).cast(DType::F32).reshape([batch, seq, d_model])
}
