//! The size of the frozen-prefix cache: hidden states at the input of the first adapted layer.

use serde::Serialize;
use train::CachePrecision;

use crate::trainable_layers::TrainableLayers;
use crate::workload::{Workload, WorkloadKind};

/// The size of the frozen-prefix cache of a training.
///
/// It is in the host's memory or on disk, not on a GPU, and not part of a [`MemoryPlan`](crate::MemoryPlan):
/// the training uses as much of it as there is space for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PrefixCachePlan {
    /// Layers below the first adapted one, which later epochs do not compute.
    pub layers: usize,
    /// Bytes of a token.
    pub bytes_per_token: u64,
    /// Bytes of a sequence of the workload.
    pub bytes_per_row: u64,
}

impl PrefixCachePlan {
    /// The cache of a valid workload; `None` for generation, and if the first layer is adapted.
    pub fn new(workload: &Workload, precision: CachePrecision) -> Option<Self> {
        let WorkloadKind::Train { .. } = workload.kind else { return None };
        let layers = TrainableLayers::new(workload).first_layer();
        let bytes_per_token = (workload.config.d_model * precision.size()) as u64;
        let bytes_per_row = precision.example_bytes(workload.seq_len, workload.config.d_model);
        (layers > 0).then_some(Self { layers, bytes_per_token, bytes_per_row })
    }
}

#[cfg(test)]
mod tests {
    use adaption_prompt::{AdaptedLayers, AdaptionPromptConfig, LoraConfig};
    use llama::{LlamaConfig, Precision};
    use train::FineTuningMethod;

    use super::*;
    use crate::DeviceTraits;

    fn workload(method: impl Into<FineTuningMethod>) -> Workload {
        Workload {
            config: LlamaConfig { n_layers: 5, d_model: 16, ..LlamaConfig::default() },
            precision: Precision::F32,
            method: method.into(),
            kind: WorkloadKind::Train { labels: 1, activation_checkpointing: false },
            batch_size: 2,
            seq_len: 10,
            device: DeviceTraits::composed(None),
        }
    }

    #[test]
    fn the_cache_holds_a_hidden_state_of_every_token() {
        let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() };
        let workload = workload(prompts);
        let plan = |precision| PrefixCachePlan::new(&workload, precision);
        // A record has a checksum of 8 bytes.
        let expected = PrefixCachePlan { layers: 3, bytes_per_token: 64, bytes_per_row: 648 };
        assert_eq!(plan(CachePrecision::F32), Some(expected));
        assert_eq!(plan(CachePrecision::BF16).unwrap().bytes_per_row, 328);
        let generation =
            Workload { kind: WorkloadKind::Generate { max_new_tokens: 1 }, ..workload.clone() };
        assert_eq!(PrefixCachePlan::new(&generation, CachePrecision::F32), None);
    }

    #[test]
    fn methods_that_adapt_the_first_layer_have_no_cache() {
        for method in [FineTuningMethod::Full, LoraConfig::default().into()] {
            assert_eq!(PrefixCachePlan::new(&workload(method), CachePrecision::F32), None);
        }
    }
}
