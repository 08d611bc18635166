//! Arguments of an attention that are not tensors.

use std::any::Any;
use std::sync::{Arc, Mutex};

pub use crate::cpu::attention::{AttentionDims, BlockTables, Sequence};

/// Cosines and sines of the rotary embedding, shared by all layers of a pass.
#[derive(Debug)]
pub struct RotaryTable {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl RotaryTable {
    /// A table of `[rows, head_dim / 2]` cosines and as many sines.
    ///
    /// # Panics
    /// If `cos` and `sin` differ in length.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>) -> Self {
        assert_eq!(cos.len(), sin.len(), "numbers of cosines and sines differ");
        Self { cos, sin }
    }

    /// Cosines, `[rows, head_dim / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines, `[rows, head_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}

/// The sequences of a packed batch. All layers of a pass share it.
#[derive(Debug, Clone)]
pub struct SequenceLayout {
    /// The rows of each sequence and the length of its past.
    pub sequences: Arc<Vec<Sequence>>,
    /// For sequences that share a prefix: the row of every token, sequence by sequence. Rows are
    /// numbered in the order of their first use, and `sequences` then counts tokens instead of
    /// rows.
    ///
    /// Such sequences have no cache. Sequences that share rows must have equal prompts: the output
    /// of a shared row is computed for the first sequence that has it.
    pub token_rows: Option<Arc<Vec<usize>>>,
    /// The blocks of each sequence, exactly where there is a cache. All layers of a cache have the
    /// same blocks.
    pub block_tables: Option<Arc<BlockTables>>,
    /// The rotary embedding of queries and keys; `None` if they are not rotated or already rotated.
    pub rotary_table: Option<Arc<RotaryTable>>,
    /// What a GPU made of the layout, at its first use.
    pub device_tables: DeviceTables,
}

/// The tables of a [`SequenceLayout`] in the memory of a GPU; empty in a new layout.
#[derive(Debug, Clone, Default)]
pub struct DeviceTables(
    #[cfg_attr(not(feature = "cubecl"), expect(dead_code, reason = "GPUs have tables"))]
    pub(crate) Arc<Mutex<Option<Arc<dyn Any + Send + Sync>>>>,
);

/// All arguments of an attention except its tensors and its cache.
#[derive(Debug, Clone)]
pub struct AttentionParams {
    pub(crate) heads: AttentionDims,
    pub(crate) layout: SequenceLayout,
    pub(crate) window: Option<usize>,
    pub(crate) prompt_lens: Option<Vec<usize>>,
}

/// Keys and values of one layer in the kernel's layout, see
/// [`KvCacheView`](crate::cpu::attention::KvCacheView).
#[derive(Debug, Clone)]
pub struct KvBuffers {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}
