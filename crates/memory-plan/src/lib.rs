//! sizes of a model, a method, a batch ─► bytes of weights, adapter, gradients, moments, graph, cache
//!
//! Nothing is loaded or run: a [`LlamaConfig`](llama::LlamaConfig) is enough. The plan is for the
//! moment of a step, or of an answer, at which most is held. `graph.rs` lists what the graph keeps, of fused
//! operations and of composed ones; `moments.rs` says which moments compete, `workspace.rs` what stays
//! between them.

mod layer_activations;
mod peak;
mod savings;
mod trainable_layers;
mod weight_bytes;
mod workload;
mod workspace;

use serde::Serialize;

use train::Result;

pub use savings::{MemorySaving, SettingChange, memory_savings};
pub use workload::{DeviceTraits, Workload, WorkloadKind};

use peak::{generation, training};

/// Bytes at the moment at which most is held; their sum is the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryPlan {
    /// The frozen base.
    pub weights: u64,
    /// What learns, of a whole model a copy beside the base; for answers the adapter with its
    /// projected prompts.
    pub adapter: u64,
    /// Gradients of what learns.
    pub gradients: u64,
    /// AdamW's two moments.
    pub optimizer: u64,
    /// What the graph, or recomputing, keeps from the forward pass.
    pub activations: u64,
    /// Keys and values of everything read and written.
    pub cache: u64,
    /// What comes on top for a moment: the widest layer's intermediates, logits, gradients on their
    /// way down, workspaces.
    pub working_set: u64,
}

impl MemoryPlan {
    /// Plans the memory of a request.
    ///
    /// On flex it is within 20 % of what a process really takes at its peak, as `tests/plan.rs`
    /// measures, and on ndarray where that was measured too; for other devices the same rules are
    /// only computed. Not counted: what the program itself takes (some MiB), what a GPU's allocator
    /// holds in reserve, the scratch of each thread of a fused device (about 0.3 to 5 MiB, by heads
    /// and length), reading the model (one tensor on top), the graph's own nodes (about 0.1 MiB a
    /// layer). Where a whole model learns the sum is too large by up to the smaller of gradients and
    /// graph, since the one grows while the other shrinks; accumulated batches take their gradients
    /// once more.
    ///
    /// ```
    /// use llama::{LlamaConfig, Precision};
    /// use train::{DeviceTraits, MemoryPlan, Method, Purpose, Request};
    ///
    /// let config = LlamaConfig {
    ///     n_layers: 32, n_heads: 32, n_kv_heads: 32, head_dim: 128, d_model: 4096, d_ff: 11008,
    ///     vocab_size: 32000, ..LlamaConfig::default()
    /// };
    /// let request = Request {
    ///     config, precision: Precision::Bits4, method: Method::default(), batch: 1, seq: 256,
    ///     purpose: Purpose::Train { labels: 128, recompute: true }, device: DeviceTraits::fused(),
    /// };
    /// let plan = MemoryPlan::new(&request)?;
    /// assert!(plan.weights < 5 << 30 && plan.total() > plan.weights);
    /// # Ok::<(), train::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Request::validate`].
    pub fn new(request: &Workload) -> Result<Self> {
        request.validate()?;
        Ok(match request.kind {
            WorkloadKind::Train { labels, .. } => training(request, labels),
            WorkloadKind::Generate { max_new_tokens: new_tokens } => {
                generation(request, new_tokens)
            }
        })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.components().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Its parts with their names.
    pub fn components(&self) -> [(&'static str, u64); 7] {
        [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("cache", self.cache),
            ("working set", self.working_set),
        ]
    }
}
