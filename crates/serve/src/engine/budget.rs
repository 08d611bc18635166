//! How many tokens of prompts a step reads beside the rows that wait for their next token.

use super::config::PrefillChunk;

/// Tokens of a step without decoding rows, and the most in any step.
const MOST: usize = 512;
/// The fewest: prompts must go on, however slow they are.
const FEWEST: usize = 16;
/// Before anything was measured.
const FIRST: usize = 32;
/// Weight of the latest step in the averages.
const WEIGHT: f64 = 0.2;

/// Learns from the durations of steps.
#[derive(Debug)]
pub(crate) struct Budget {
    chunk: PrefillChunk,
    /// Seconds of steps without prompts, by number of decoding rows.
    decode: Vec<Option<f64>>,
    /// Seconds that each token of a prompt adds.
    per_token: Option<f64>,
}

impl Budget {
    pub(crate) fn new(chunk: PrefillChunk) -> Self {
        Self { chunk, decode: Vec::new(), per_token: None }
    }

    /// Tokens of prompts that the next step may read.
    pub(crate) fn tokens(&self, decoding: usize) -> usize {
        let share = match self.chunk {
            PrefillChunk::Tokens(tokens) => return tokens.max(1),
            PrefillChunk::Auto { .. } if decoding == 0 => return MOST,
            PrefillChunk::Auto { share } => share,
        };
        match (self.decode_seconds(decoding), self.per_token) {
            (Some(decode), Some(per_token)) if per_token > 0.0 => {
                (((share - 1.0) * decode / per_token) as usize).clamp(FEWEST, MOST)
            }
            _ => FIRST,
        }
    }

    /// Takes a step into account.
    pub(crate) fn learn(&mut self, decoding: usize, prefill_tokens: usize, seconds: f64) {
        if prefill_tokens == 0 {
            if self.decode.len() <= decoding {
                self.decode.resize(decoding + 1, None);
            }
            average(&mut self.decode[decoding], seconds);
        } else {
            let decode = if decoding == 0 { Some(0.0) } else { self.decode_seconds(decoding) };
            if let Some(decode) = decode {
                let seconds = (seconds - decode).max(0.0) / prefill_tokens as f64;
                average(&mut self.per_token, seconds);
            }
        }
    }

    /// The average of the nearest number of rows, the lower one of two.
    fn decode_seconds(&self, rows: usize) -> Option<f64> {
        let known = self.decode.iter().enumerate().filter_map(|(own, seconds)| {
            let seconds = (*seconds)?;
            Some((own.abs_diff(rows), seconds))
        });
        known.min_by_key(|(distance, _)| *distance).map(|(_, seconds)| seconds)
    }
}

fn average(value: &mut Option<f64>, latest: f64) {
    *value = Some(value.map_or(latest, |before| before + WEIGHT * (latest - before)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_chunk_never_changes() {
        let mut budget = Budget::new(PrefillChunk::Tokens(7));
        budget.learn(4, 7, 100.0);
        assert_eq!((budget.tokens(0), budget.tokens(4)), (7, 7));
    }

    #[test]
    fn a_step_takes_about_as_long_as_the_share_allows() {
        let mut budget = Budget::new(PrefillChunk::Auto { share: 1.7 });
        assert_eq!(budget.tokens(0), MOST);
        for _ in 0..50 {
            budget.learn(8, 0, 0.050);
            let tokens = budget.tokens(8);
            budget.learn(8, tokens, 0.050 + 0.001 * tokens as f64);
        }
        assert!((33..=36).contains(&budget.tokens(8)), "{}", budget.tokens(8));
        // Another number of rows is taken as the nearest known one.
        assert_eq!(budget.tokens(9), budget.tokens(8));
    }

    #[test]
    fn slow_prompts_go_on() {
        let mut budget = Budget::new(PrefillChunk::Auto { share: 1.1 });
        budget.learn(1, 0, 0.001);
        budget.learn(1, 16, 10.0);
        assert_eq!(budget.tokens(1), FEWEST);
    }
}
