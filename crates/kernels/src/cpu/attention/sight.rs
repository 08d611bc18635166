//! Which slots a query sees. Both ends move forward from query to query, so that those who see a
//! given slot are neighbours.

use std::ops::Range;

use super::Sequence;

/// What the queries of a block see.
#[derive(Debug, Clone, Copy)]
pub enum Sight {
    /// Slots up to their own.
    Causal {
        /// Slot of the block's first query.
        first: usize,
        /// Slots at the start that only see themselves.
        padding: usize,
        /// Most slots that a query sees.
        window: usize,
    },
    /// All of so many slots.
    All(usize),
}

impl Sight {
    /// Sight of the queries from number `query` on.
    pub fn causal(sequence: &Sequence, query: usize, window: Option<usize>) -> Self {
        let Sequence { past, padding, .. } = *sequence;
        Self::Causal { first: past + query, padding, window: window.unwrap_or(usize::MAX) }
    }

    /// Slots that a query of the block sees.
    pub fn slots(self, query: usize) -> Range<usize> {
        match self {
            Self::Causal { first, padding, window } => {
                let slot = first + query;
                let start = if slot < padding {
                    slot
                } else {
                    padding.max((slot + 1).saturating_sub(window))
                };
                start..slot + 1
            }
            Self::All(slots) => 0..slots,
        }
    }

    /// Slots that any of these queries sees.
    pub fn visible_positions_of(self, queries: Range<usize>) -> Range<usize> {
        if queries.is_empty() {
            return 0..0;
        }
        self.slots(queries.start).start..self.slots(queries.end - 1).end
    }

    /// Those of `count` queries that may see any of the slots.
    pub fn queries(self, slots: Range<usize>, count: usize) -> Range<usize> {
        match self {
            Self::Causal { first, padding, window } => {
                let end = if slots.end <= padding {
                    slots.end
                } else {
                    slots.end.saturating_add(window - 1)
                };
                let [start, end] =
                    [slots.start, end].map(|slot| slot.saturating_sub(first).min(count));
                start..end
            }
            Self::All(_) => 0..count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_slots_see_each_other() {
        for (past, padding, window) in [
            (0, 0, None),
            (3, 0, None),
            (0, 5, None),
            (2, 4, Some(1)),
            (0, 3, Some(2)),
            (7, 0, Some(4)),
        ] {
            let sequence = Sequence { first_row: 0, len: 12, past, padding };
            for query in 0..4 {
                let count = 12 - query;
                let sight = Sight::causal(&sequence, query, window);
                for start in 0..past + 12 {
                    for end in start + 1..=past + 12 {
                        let queries = sight.queries(start..end, count);
                        for q in 0..count {
                            let seen = sight.slots(q);
                            let sees = seen.start < end && start < seen.end;
                            assert!(!sees || queries.contains(&q), "{sight:?} {start}..{end} {q}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn padding_sees_itself_and_tokens_see_what_the_window_shows() {
        let sequence = Sequence { first_row: 0, len: 6, past: 0, padding: 2 };
        let seen = |window| {
            let sight = Sight::causal(&sequence, 0, window);
            (0..6).map(|query| sight.slots(query)).collect::<Vec<_>>()
        };
        assert_eq!(seen(None), [0..1, 1..2, 2..3, 2..4, 2..5, 2..6]);
        assert_eq!(seen(Some(3)), [0..1, 1..2, 2..3, 2..4, 2..5, 3..6]);
    }
}
