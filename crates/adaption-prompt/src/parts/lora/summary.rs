//! Summary of LoRA.

use serde::Serialize;

use crate::part::PartSummary;

/// Summary of LoRA.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoraSummary {
    /// Rank of most pairs.
    pub rank: usize,
    /// The products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Number of adapted linear layers.
    pub linears: usize,
}

impl PartSummary for LoraSummary {
    fn short(&self) -> String {
        format!("LoRA {}", self.rank)
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { rank, alpha, linears } = self;
        vec![("lora", format!("rank {rank}, alpha {alpha}, on {linears} linear layers"))]
    }
}
