//! Which blocks of a cache hold the keys and values of each sequence.

/// The blocks of all sequences of a pass. Block `i` of a sequence holds its positions from `32 i`
/// on.
///
/// Sequences may share blocks of their past, but not the blocks that new tokens are written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTables {
    blocks: Vec<u32>,
    /// Where the blocks of each sequence end.
    ends: Vec<usize>,
}

impl BlockTables {
    /// Tables of no sequences.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the blocks of the next sequence, in the order of its positions.
    pub fn push(&mut self, blocks: &[u32]) {
        self.blocks.extend_from_slice(blocks);
        self.ends.push(self.blocks.len());
    }

    /// The blocks of a sequence.
    ///
    /// # Panics
    /// If there are fewer sequences.
    pub fn of(&self, sequence: usize) -> &[u32] {
        let start = sequence.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.blocks[start..self.ends[sequence]]
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_has_its_own_blocks() {
        let mut tables = BlockTables::new();
        assert!(tables.is_empty());
        for blocks in [&[3, 1][..], &[], &[7]] {
            tables.push(blocks);
        }
        assert_eq!((tables.of(0), tables.of(1), tables.of(2)), (&[3, 1][..], &[][..], &[7][..]));
        assert_eq!(tables.len(), 3);
    }
}
