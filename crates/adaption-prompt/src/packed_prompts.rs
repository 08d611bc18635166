//! Prompts in the form of the kernels: of one adapter, and of the sequences of a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use llama::{Llama, PackedPrompt, PromptTable};

use crate::projected_prompts::ProjectedPrompts;

/// The prompts of an adapter by layer, in tables for any number of sequences. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackedPrompts(Arc<BTreeMap<usize, PromptTable>>);

impl PackedPrompts {
    /// Packs prompts; `None` if they differ between the rows of a batch. The tensors are on a fused device
    /// without autodiff.
    pub fn new(prompts: &ProjectedPrompts, llama: &Llama) -> Option<Self> {
        let layers = prompts.layers().map(|(layer, branches)| {
            let attention = &llama.layers[layer].attention;
            let prompts = branches.iter().map(|branch| {
                let mut rows = attention.pack_prompt(branch);
                let first = rows.pop()?;
                rows.is_empty().then_some(first)
            });
            let prompts = prompts.collect::<Option<Vec<_>>>()?;
            Some((layer, PromptTable { prompts, of_sequence: Vec::new() }))
        });
        Some(Self(Arc::new(layers.collect::<Option<_>>()?)))
    }

    /// The prompts of a layer, for every sequence.
    pub fn layer(&self, layer: usize) -> Option<&PromptTable> {
        self.0.get(&layer)
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.values().flat_map(|table| &table.prompts).map(PackedPrompt::bytes).sum()
    }

    /// Tables of several sequences by layer, each with its own prompts. What several sequences have is in a
    /// table once.
    pub fn tables(sequences: &[Self]) -> BTreeMap<usize, PromptTable> {
        let mut distinct: Vec<&Self> = Vec::new();
        let of_sequence = sequences.iter().map(|own| {
            let known = distinct.iter().position(|other| own.is_same(other));
            known.unwrap_or_else(|| {
                distinct.push(own);
                distinct.len() - 1
            })
        });
        let of_sequence = of_sequence.collect::<Vec<_>>();
        let table = |layer: usize| {
            let mut prompts = Vec::new();
            let ranges = distinct.iter().map(|own| {
                let first = prompts.len() as u32;
                prompts.extend(own.layer(layer).into_iter().flat_map(|own| own.prompts.clone()));
                first..prompts.len() as u32
            });
            let ranges = ranges.collect::<Vec<_>>();
            let of_sequence = of_sequence.iter().map(|&own| ranges[own].clone()).collect();
            PromptTable { prompts, of_sequence }
        };
        let layers = distinct.iter().flat_map(|own| own.0.keys().copied()).collect::<BTreeSet<_>>();
        layers.into_iter().map(|layer| (layer, table(layer))).collect()
    }

    /// Whether both are none, or clones of the same prompts.
    fn is_same(&self, other: &Self) -> bool {
        self.0.is_empty() && other.0.is_empty() || Arc::ptr_eq(&self.0, &other.0)
    }
}
