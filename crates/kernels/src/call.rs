//! What an attention is told beside its tensors.

use std::sync::Arc;

use crate::cpu::attention::{AttentionDims, Sequence};

/// Turns of queries and keys, `[rows, head_dim / 2]` each, shared by all layers of a pass.
#[derive(Debug)]
pub struct RotaryTable {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

/// Everything about an attention that is no tensor.
#[derive(Debug, Clone)]
pub struct AttentionParams {
    pub(crate) heads: AttentionDims,
    pub(crate) rotation: Option<Arc<RotaryTable>>,
    pub(crate) sequences: Arc<Vec<Sequence>>,
    pub(crate) rows: Option<Arc<Vec<usize>>>,
    pub(crate) window: Option<usize>,
    pub(crate) prompt_lens: Option<Vec<usize>>,
}

/// Keys and values of one layer as the kernel wants them.
#[derive(Debug, Clone)]
pub struct KvBuffers {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    pub(crate) capacity: usize,
}
