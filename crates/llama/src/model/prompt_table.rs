//! An adapter's prompts of a layer ─► the prompts of every sequence of a pass, for fused attention.

use std::borrow::Cow;

use kernels::{AttentionDims, PackedPrompt, PromptTable};

use super::adapter_hooks::Adapter;

/// The prompts of `sequences` in a layer: the adapter's own table, or one of its prompts, packed here.
///
/// # Panics
/// If the adapter's table or prompts belong to another number of sequences.
pub(super) fn prompt_table<'a>(
    adapter: &'a dyn Adapter,
    layer: usize,
    sequences: usize,
    heads: AttentionDims,
) -> Cow<'a, PromptTable> {
    if let Some(table) = adapter.prompt_table(layer) {
        if table.of_sequence.len() == sequences {
            return Cow::Borrowed(table);
        }
        assert!(table.of_sequence.is_empty(), "the prompts of another number of sequences");
        return Cow::Owned(for_every_sequence(table.prompts.clone(), sequences));
    }
    let batches = adapter.prompts(layer).iter();
    let batches = batches.map(|prompt| PackedPrompt::new(prompt, heads)).collect::<Vec<_>>();
    if batches.iter().all(|batch| batch.len() == 1) {
        return Cow::Owned(for_every_sequence(batches.concat(), sequences));
    }
    let mut table = PromptTable::default();
    for sequence in 0..sequences {
        let start = table.prompts.len() as u32;
        table.prompts.extend(batches.iter().map(|batch| match &batch[..] {
            [shared] => shared.clone(),
            batch => {
                assert_eq!(batch.len(), sequences, "prompts of another number of sequences");
                batch[sequence].clone()
            }
        }));
        table.of_sequence.push(start..table.prompts.len() as u32);
    }
    Cow::Owned(table)
}

/// A table in which every sequence attends to all prompts.
fn for_every_sequence(prompts: Vec<PackedPrompt>, sequences: usize) -> PromptTable {
    let of_sequence = vec![0..prompts.len() as u32; sequences];
    PromptTable { prompts, of_sequence }
}
