//! The attention mask, as a range of visible cache positions for each query. Both ends of the range
//! increase from query to query, so that the queries that attend to a position are a range too.

use std::ops::Range;

use super::inputs::Sequence;

/// The positions that the queries of a block attend to.
#[derive(Debug, Clone, Copy)]
pub enum AttentionMask {
    /// Positions up to the query's own.
    Causal {
        /// Position of the block's first query.
        first: usize,
        /// Padding positions at the start, which attend to themselves only.
        padding: usize,
        /// Maximum number of positions that a query attends to.
        window: usize,
    },
    /// This number of positions, for all queries.
    All(usize),
}

impl AttentionMask {
    /// The mask of the queries from `query` on.
    pub fn causal(sequence: &Sequence, query: usize, window: Option<usize>) -> Self {
        let Sequence { past, padding, .. } = *sequence;
        Self::Causal { first: past + query, padding, window: window.unwrap_or(usize::MAX) }
    }

    /// The positions that a query of the block attends to.
    pub fn visible_positions(self, query: usize) -> Range<usize> {
        match self {
            Self::Causal { first, padding, window } => {
                let position = first + query;
                let start = if position < padding {
                    position
                } else {
                    padding.max((position + 1).saturating_sub(window))
                };
                start..position + 1
            }
            Self::All(positions) => 0..positions,
        }
    }

    /// The positions that any of these queries attends to.
    pub fn visible_positions_of(self, queries: Range<usize>) -> Range<usize> {
        if queries.is_empty() {
            return 0..0;
        }
        self.visible_positions(queries.start).start..self.visible_positions(queries.end - 1).end
    }

    /// The range of the block's first `count` queries that may attend to any of the positions.
    pub fn queries_attending_to(self, positions: Range<usize>, count: usize) -> Range<usize> {
        match self {
            Self::Causal { first, padding, window } => {
                let end = if positions.end <= padding {
                    positions.end
                } else {
                    positions.end.saturating_add(window - 1)
                };
                let [start, end] = [positions.start, end]
                    .map(|position| position.saturating_sub(first).min(count));
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
    fn visible_positions_and_attending_queries_agree() {
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
                let mask = AttentionMask::causal(&sequence, query, window);
                for start in 0..past + 12 {
                    for end in start + 1..=past + 12 {
                        let queries = mask.queries_attending_to(start..end, count);
                        for q in 0..count {
                            let visible = mask.visible_positions(q);
                            let attends = visible.start < end && start < visible.end;
                            assert!(
                                !attends || queries.contains(&q),
                                "{mask:?} {start}..{end} {q}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn padding_attends_to_itself_and_tokens_to_the_window() {
        let sequence = Sequence { first_row: 0, len: 6, past: 0, padding: 2 };
        let visible = |window| {
            let mask = AttentionMask::causal(&sequence, 0, window);
            (0..6).map(|query| mask.visible_positions(query)).collect::<Vec<_>>()
        };
        assert_eq!(visible(None), [0..1, 1..2, 2..3, 2..4, 2..5, 2..6]);
        assert_eq!(visible(Some(3)), [0..1, 1..2, 2..3, 2..4, 2..5, 3..6]);
    }
}
