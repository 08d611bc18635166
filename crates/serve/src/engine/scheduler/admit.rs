//! Who has blocks: rows join while there are enough, and the newest leaves when an older one needs more.

use super::Scheduler;
use crate::engine::BLOCK_TOKENS;
use crate::engine::prefix::PrefixKey;
use crate::engine::step_model::StepModel;

impl<M: StepModel> Scheduler<'_, M> {
    /// Gives every row room for its newest token; how many rows lost theirs.
    pub(super) fn make_room(&mut self) -> usize {
        let mut preempted = 0;
        let mut index = 0;
        while let Some(row) = self.running.get_mut(index) {
            if row.has_room() {
                index += 1;
            } else if let Some(new) = self.blocks.allocate(1) {
                row.blocks.extend(new);
            } else {
                // It may be this row itself.
                let mut newest = self.running.pop().expect("there is at least this row");
                newest.release(&mut self.blocks);
                self.requests.preempted(newest.request);
                self.queue.push_front(newest);
                preempted += 1;
            }
        }
        preempted
    }

    /// Lets rows join, in order. A row needs blocks for all of its tokens and one more: a row that was just
    /// preempted does not come back before somebody else has left.
    pub(super) fn admit(&mut self) {
        let mut position = 0;
        while self.running.len() < self.config.max_rows && position < self.queue.len() {
            let chunk = self.spec.fixed_chunk;
            let row = &mut self.queue[position];
            let reusable = if self.config.prefix_cache { row.reusable_blocks(chunk) } else { 0 };
            row.keys.extend(&row.tokens);
            let keys = &row.keys.keys()[..reusable];
            let mut blocks = self.blocks.lookup(keys);
            if let Some(chunk) = chunk {
                let of_chunk = chunk / BLOCK_TOKENS;
                let rest = blocks.split_off(blocks.len() / of_chunk * of_chunk);
                self.blocks.release(&rest);
            }
            let (found, wanted) = (blocks.len(), row.blocks_to_start());
            if let Some(next) = keys.get(found).copied()
                && self.is_being_computed(found, &next)
            {
                // It soon is in the cache: others may pass meanwhile.
                self.blocks.release(&blocks);
                position += 1;
                continue;
            }
            let Some(new) = self.blocks.allocate(wanted - found) else {
                self.blocks.release(&blocks);
                break;
            };
            blocks.extend(new);
            let mut row = self.queue.remove(position).expect("the position is in the queue");
            row.blocks = blocks;
            row.computed = found * BLOCK_TOKENS;
            row.settled = found;
            self.requests.started(row.request, row.computed);
            self.running.push(row);
        }
    }

    /// Whether a row computes this block now, and others may use it then.
    fn is_being_computed(&self, place: usize, key: &PrefixKey) -> bool {
        self.running.iter().any(|row| {
            place >= row.settled
                && place < row.shareable_blocks(self.spec.fixed_chunk)
                && row.keys.keys().get(place) == Some(key)
        })
    }
}
