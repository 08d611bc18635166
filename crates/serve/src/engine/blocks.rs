//! Which blocks of the cache hold what: blocks in use, blocks that keep a beginning for later, free blocks.
//!
//! ```text
//!          allocate                release, published
//!   free ───────────► in use ──────────────────────────► cached
//!     ▲                 │  ▲                               │ │
//!     └─────────────────┘  └───────────────────────────────┘ │
//!     ▲  release, private          lookup                    │
//!     └──────────────────────────────────────────────────────┘
//!        allocate, when nothing is free: the least recently used
//! ```
//!
//! A block is published under a [`PrefixKey`] once it is full and computed: from then on nobody writes to it,
//! and any number of rows may read it.

use std::collections::{BTreeMap, HashMap};

use super::prefix::PrefixKey;

/// Index of a block in the cache.
pub(crate) type BlockId = u32;

/// Hands out the blocks of a cache.
#[derive(Debug)]
pub(crate) struct BlockAllocator {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    published: HashMap<PrefixKey, BlockId>,
    /// Published blocks without references, the least recently used first.
    cached: BTreeMap<u64, BlockId>,
    clock: u64,
}

#[derive(Debug, Clone, Default)]
struct Block {
    references: u32,
    key: Option<PrefixKey>,
    /// Its place in `cached`.
    released: Option<u64>,
}

/// Numbers of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockCounts {
    pub(crate) used: usize,
    pub(crate) cached: usize,
    pub(crate) free: usize,
}

/// Blocks that are not handed out: block 0 takes the writes of padding, on devices whose passes have a
/// fixed shape.
pub(crate) const RESERVED_BLOCKS: usize = 1;

impl BlockAllocator {
    /// An allocator for a cache of `blocks` blocks, all of them free.
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); blocks],
            // The lowest first.
            free: (RESERVED_BLOCKS as BlockId..blocks as BlockId).rev().collect(),
            published: HashMap::new(),
            cached: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The longest known run of blocks from the start. The caller has a reference to each.
    pub(crate) fn lookup(&mut self, keys: &[PrefixKey]) -> Vec<BlockId> {
        let known = keys.iter().map_while(|key| self.published.get(key).copied());
        let known = known.collect::<Vec<_>>();
        for &id in &known {
            let block = &mut self.blocks[id as usize];
            block.references += 1;
            if let Some(time) = block.released.take() {
                self.cached.remove(&time);
            }
        }
        known
    }

    /// Blocks that [`allocate`](Self::allocate) can give.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// Private blocks, free ones first, then cached ones, which are forgotten; `None` if there are too
    /// few.
    pub(crate) fn allocate(&mut self, count: usize) -> Option<Vec<BlockId>> {
        if count > self.available() {
            return None;
        }
        let blocks = (0..count).map(|_| self.take_one()).collect::<Vec<_>>();
        for &id in &blocks {
            self.blocks[id as usize].references = 1;
        }
        Some(blocks)
    }

    fn take_one(&mut self) -> BlockId {
        if let Some(id) = self.free.pop() {
            return id;
        }
        let (_time, id) = self.cached.pop_first().expect("the number of blocks was checked");
        let block = std::mem::take(&mut self.blocks[id as usize]);
        self.published.remove(&block.key.expect("cached blocks are published"));
        id
    }

    /// Makes a block findable. If another block has this key already, this one stays private.
    pub(crate) fn publish(&mut self, id: BlockId, key: PrefixKey) {
        let block = &mut self.blocks[id as usize];
        debug_assert!(block.references > 0 && block.key.is_none(), "block {id}: {block:?}");
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.published.entry(key) {
            vacant.insert(id);
            block.key = Some(key);
        }
    }

    /// Gives references back. Blocks of one row come in the order of its tokens, so that the end of a
    /// text is forgotten before its beginning.
    ///
    /// # Panics
    /// If a block has no reference: two owners would then write to it.
    pub(crate) fn release(&mut self, blocks: &[BlockId]) {
        for &id in blocks.iter().rev() {
            let block = &mut self.blocks[id as usize];
            assert!(block.references > 0, "block {id} is released twice");
            block.references -= 1;
            if block.references > 0 {
                continue;
            }
            if block.key.is_some() {
                self.clock += 1;
                block.released = Some(self.clock);
                self.cached.insert(self.clock, id);
            } else {
                self.free.push(id);
            }
        }
    }

    pub(crate) fn counts(&self) -> BlockCounts {
        let (cached, free) = (self.cached.len(), self.free.len());
        let all = self.blocks.len() - RESERVED_BLOCKS;
        BlockCounts { used: all - cached - free, cached, free }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PrefixKey {
        [number; 32]
    }

    fn counts(used: usize, cached: usize, free: usize) -> BlockCounts {
        BlockCounts { used, cached, free }
    }

    #[test]
    fn the_reserved_block_is_never_handed_out() {
        let mut blocks = BlockAllocator::new(4);
        assert_eq!(blocks.counts(), counts(0, 0, 3));
        assert_eq!(blocks.allocate(3), Some(vec![1, 2, 3]));
        assert_eq!(blocks.allocate(1), None);
    }

    #[test]
    fn a_published_block_is_found_until_it_is_needed() {
        let mut blocks = BlockAllocator::new(4);
        let own = blocks.allocate(2).unwrap();
        blocks.publish(own[0], key(1));
        blocks.release(&own);
        assert_eq!(blocks.counts(), counts(0, 1, 2));
        assert_eq!(blocks.lookup(&[key(1), key(2)]), [own[0]]);
        assert_eq!(blocks.counts(), counts(1, 0, 2));
        assert_eq!(blocks.allocate(3), None);
        blocks.release(&own[..1]);
        assert!(blocks.allocate(3).is_some());
        assert_eq!(blocks.lookup(&[key(1)]), [0; 0]);
    }

    #[test]
    fn a_run_ends_at_the_first_unknown_block() {
        let mut blocks = BlockAllocator::new(4);
        let own = blocks.allocate(2).unwrap();
        blocks.publish(own[0], key(1));
        blocks.publish(own[1], key(3));
        assert_eq!(blocks.lookup(&[key(1), key(2), key(3)]), [own[0]]);
    }

    #[test]
    fn the_end_of_a_text_is_forgotten_before_its_beginning() {
        let mut blocks = BlockAllocator::new(4);
        let own = blocks.allocate(3).unwrap();
        for (number, &id) in own.iter().enumerate() {
            blocks.publish(id, key(number as u8));
        }
        blocks.release(&own);
        blocks.allocate(1).unwrap();
        assert_eq!(blocks.lookup(&[key(0), key(1), key(2)]), own[..2]);
    }

    #[test]
    fn a_second_block_of_a_key_stays_private() {
        let mut blocks = BlockAllocator::new(4);
        let own = blocks.allocate(2).unwrap();
        blocks.publish(own[0], key(1));
        blocks.publish(own[1], key(1));
        blocks.release(&own);
        assert_eq!(blocks.counts(), counts(0, 1, 2));
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_block_released_twice_panics() {
        let mut blocks = BlockAllocator::new(3);
        let own = blocks.allocate(1).unwrap();
        blocks.release(&own);
        blocks.release(&own);
    }

    /// One row of the model: its blocks, and the keys of all its full ones.
    #[derive(Debug)]
    struct Row {
        blocks: Vec<BlockId>,
        keys: Vec<PrefixKey>,
        published: usize,
    }

    #[derive(Debug, Clone)]
    enum Action {
        /// A row whose text begins with letters of a short alphabet, and private blocks behind.
        Start {
            letters: Vec<u8>,
            private: usize,
        },
        Publish {
            row: usize,
        },
        Grow {
            row: usize,
        },
        End {
            row: usize,
        },
    }

    fn action() -> impl Strategy<Value = Action> {
        let letters = proptest::collection::vec(0_u8..2, 0..4);
        prop_oneof![
            (letters, 0_usize..3).prop_map(|(letters, private)| Action::Start { letters, private }),
            any::<usize>().prop_map(|row| Action::Publish { row }),
            any::<usize>().prop_map(|row| Action::Grow { row }),
            any::<usize>().prop_map(|row| Action::End { row }),
        ]
    }

    /// Keys of a text: each holds all letters before.
    fn keys(letters: &[u8]) -> Vec<PrefixKey> {
        let key = |end: usize| {
            let mut key = [9; 32];
            key[..=end].copy_from_slice(&letters[..=end]);
            key
        };
        (0..letters.len()).map(key).collect()
    }

    proptest! {
        #[test]
        fn blocks_have_one_writer_and_references_come_back(
            size in 2_usize..12,
            actions in proptest::collection::vec(action(), 0..60),
        ) {
            let mut blocks = BlockAllocator::new(size);
            let mut rows: Vec<Row> = Vec::new();
            for action in actions {
                match action {
                    Action::Start { letters, private } => {
                        let keys = keys(&letters);
                        let mut own = blocks.lookup(&keys);
                        let published = own.len();
                        let more = keys.len() - published + private;
                        if let Some(new) = blocks.allocate(more) {
                            own.extend(new);
                            rows.push(Row { blocks: own, keys, published });
                        } else {
                            prop_assert!(more > blocks.available());
                            blocks.release(&own);
                        }
                    }
                    Action::Publish { row } if !rows.is_empty() => {
                        let count = rows.len();
                        let row = &mut rows[row % count];
                        if row.published < row.keys.len() {
                            blocks.publish(row.blocks[row.published], row.keys[row.published]);
                            row.published += 1;
                        }
                    }
                    Action::Grow { row } if !rows.is_empty() => {
                        let count = rows.len();
                        if let Some(new) = blocks.allocate(1) {
                            rows[row % count].blocks.extend(new);
                        }
                    }
                    Action::End { row } if !rows.is_empty() => {
                        let row = rows.swap_remove(row % rows.len());
                        blocks.release(&row.blocks);
                    }
                    _ => {}
                }
                // A block of several rows is at the same place of each, and published by all of them.
                let mut seen: HashMap<BlockId, Option<PrefixKey>> = HashMap::new();
                for row in &rows {
                    for (place, &id) in row.blocks.iter().enumerate() {
                        prop_assert!((id as usize) >= RESERVED_BLOCKS && (id as usize) < size);
                        let own = row.keys.get(place).copied().filter(|_| place < row.published);
                        if let Some(other) = seen.insert(id, own) {
                            prop_assert!(own.is_some() && own == other, "block {} is shared", id);
                        }
                    }
                }
                let counts = blocks.counts();
                prop_assert_eq!(counts.used, seen.len());
                prop_assert_eq!(counts.used + counts.cached + counts.free, size - RESERVED_BLOCKS);
            }
            for row in rows {
                blocks.release(&row.blocks);
            }
            prop_assert_eq!(blocks.counts().used, 0);
            prop_assert!(blocks.allocate(size - RESERVED_BLOCKS).is_some());
        }
    }
}
