//! An adapter's prompts of a layer ─► the prompts of every sequence of a pass, for fused attention.

use std::borrow::Cow;

use kernels::{AttentionDims, PackedPrompt, PromptTable};

use super::adapter_hooks::Adapter;

/// The prompts of `sequences` in a layer: the adapter's own table, or one of its prompts, packed here.
///
/// # Panics
/// If the adapter's table or prompts belong to another number of sequences.
pub(super) fn prompt_table(
    adapter: &dyn Adapter,
    layer: usize,
    sequences: usize,
    heads: AttentionDims,
) -> Cow<'_, PromptTable> {
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

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use kernels::GatedPrompt;

    use super::*;

    const HEADS: AttentionDims = AttentionDims { heads: 2, kv_heads: 1, head_dim: 4 };

    /// Prompts of several batches, each as long as it has tokens.
    struct Prompts {
        prompts: Vec<GatedPrompt>,
        table: Option<PromptTable>,
    }

    impl Adapter for Prompts {
        fn prompts(&self, _layer: usize) -> &[GatedPrompt] {
            &self.prompts
        }

        fn prompt_table(&self, _layer: usize) -> Option<&PromptTable> {
            self.table.as_ref()
        }
    }

    fn prompt(lens: &[usize]) -> GatedPrompt {
        let (device, batch) = (testing::flex(), lens.len());
        let ones = |[heads, tokens, width]: [usize; 3]| {
            Tensor::ones([batch, heads, tokens, width], &device)
        };
        let key_value = ones([HEADS.kv_heads, 32, HEADS.head_dim]);
        GatedPrompt {
            key: key_value.clone(),
            value: key_value,
            gate: ones([HEADS.heads, 1, 1]),
            lens: Some(lens.to_vec()),
        }
    }

    /// Sizes of the prompts of each sequence: those of longer prompts are larger.
    fn sizes(adapter: &dyn Adapter, sequences: usize) -> Vec<Vec<usize>> {
        let table = prompt_table(adapter, 0, sequences, HEADS);
        let of_sequence = table.of_sequence.iter().map(|range| {
            let prompts = &table.prompts[range.start as usize..range.end as usize];
            prompts.iter().map(PackedPrompt::bytes).collect()
        });
        of_sequence.collect()
    }

    fn size(len: usize) -> usize {
        PackedPrompt::new(&prompt(&[len]), HEADS)[0].bytes()
    }

    #[test]
    fn every_sequence_has_the_prompts_of_one_batch() {
        let prompts = Prompts { prompts: vec![prompt(&[3]), prompt(&[20])], table: None };
        assert_eq!(sizes(&prompts, 3), vec![vec![size(3), size(20)]; 3]);
    }

    #[test]
    fn each_sequence_has_its_own_of_several_batches() {
        let prompts = Prompts { prompts: vec![prompt(&[3, 4]), prompt(&[20])], table: None };
        assert_eq!(sizes(&prompts, 2), [[size(3), size(20)], [size(4), size(20)]]);
    }

    #[test]
    fn a_table_without_ranges_is_one_for_every_sequence() {
        let packed = PackedPrompt::new(&prompt(&[7]), HEADS);
        let table = PromptTable { prompts: packed, of_sequence: Vec::new() };
        let prompts = Prompts { prompts: Vec::new(), table: Some(table) };
        assert_eq!(sizes(&prompts, 2), [[size(7)], [size(7)]]);
    }

    #[test]
    fn no_prompts_are_none_for_every_sequence() {
        let prompts = Prompts { prompts: Vec::new(), table: None };
        assert_eq!(sizes(&prompts, 2), [[0; 0], [0; 0]]);
    }

    #[test]
    #[should_panic(expected = "another number of sequences")]
    fn prompts_of_another_number_of_sequences_panic() {
        let prompts = Prompts { prompts: vec![prompt(&[3, 4])], table: None };
        sizes(&prompts, 3);
    }
}
