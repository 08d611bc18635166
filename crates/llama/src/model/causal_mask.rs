//! Causal masks with padding and sliding windows, as tensors.
//!
//! The fused kernels apply the same rule without a mask tensor: `kernels/src/cpu/attention/mask.rs`.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::forward_paged::PagedSequence;
use crate::config::LlamaConfig;

/// The masks of a pass, for layers with and without a sliding window. `None`: plain causal attention.
#[derive(Debug, Clone, Default)]
pub(super) struct LayerMasks {
    windowed: Option<Tensor<4, Bool>>,
    full: Option<Tensor<4, Bool>>,
    /// Number of layers without a window, which are the lowest ones.
    full_attention_layers: usize,
}

impl LayerMasks {
    /// `mask` makes the mask of a window.
    pub(super) fn new(
        config: &LlamaConfig,
        mask: impl Fn(Option<usize>) -> Option<Tensor<4, Bool>>,
    ) -> Self {
        let full_attention_layers = config.full_attention_layers;
        let full = if full_attention_layers > 0 { mask(None) } else { None };
        Self { windowed: mask(config.sliding_window), full, full_attention_layers }
    }

    /// Masks of sequences of different lengths, `[sequences, 1, seq, total]`. The new tokens of a sequence
    /// follow its past, and those that it lacks see what its last one sees.
    pub(super) fn of_sequences(
        config: &LlamaConfig,
        sequences: &[PagedSequence<'_>],
        seq: usize,
        total: usize,
        device: &Device,
    ) -> Self {
        Self::new(config, |window| {
            let window = window.unwrap_or(usize::MAX);
            let mut masked = Vec::with_capacity(sequences.len() * seq * total);
            for sequence in sequences {
                for q in 0..seq {
                    let q = (sequence.past + q).min(sequence.len() - 1);
                    masked.extend((0..total).map(|k| k > q || q - k >= window));
                }
            }
            let data = TensorData::new(masked, [sequences.len(), 1, seq, total]);
            Some(Tensor::from_data(data, device))
        })
    }

    /// The mask of a layer.
    pub(super) fn of(&self, layer: usize) -> Option<Tensor<4, Bool>> {
        if layer < self.full_attention_layers { self.full.clone() } else { self.windowed.clone() }
    }
}

/// The mask of a pass over `seq` new tokens after `past` cached ones, `[batch or 1, 1, seq, past + seq]`
/// and true where attention is masked; `None` if it equals plain causal attention.
///
/// A query at cache position `q` attends to position `k` if `k <= q`, `k` is not padding of its row and
/// `q - k < window`. A padding position attends to itself only, so that no softmax is empty.
pub(super) fn causal_mask(
    padding: &[usize],
    past: usize,
    seq: usize,
    window: Option<usize>,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let total = past + seq;
    let window = window.unwrap_or(usize::MAX);
    let padded = padding.iter().any(|&padding| padding > 0);
    if !padded && total <= window {
        return None;
    }
    let rows = if padded { padding } else { &[0] };
    let mut masked = Vec::with_capacity(rows.len() * seq * total);
    for &padding in rows {
        for q in past..total {
            masked.extend((0..total).map(|k| {
                let visible = k <= q && k >= padding && q - k < window;
                !(visible || k == q)
            }));
        }
    }
    let data = TensorData::new(masked, [rows.len(), 1, seq, total]);
    Some(Tensor::from_data(data, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(mask: Tensor<4, Bool>) -> Vec<String> {
        let [_batch, _one, _seq, total] = mask.dims();
        let cells = crate::read_back::read_back(mask).unwrap().iter::<bool>().collect::<Vec<_>>();
        cells
            .chunks(total)
            .map(|row| row.iter().map(|&masked| if masked { '.' } else { 'x' }).collect())
            .collect()
    }

    #[test]
    fn no_mask_without_padding_or_window() {
        assert!(causal_mask(&[0, 0], 0, 4, Some(4), &testing::flex()).is_none());
    }

    #[test]
    fn sliding_window_masks_older_positions() {
        for device in testing::devices() {
            let mask = causal_mask(&[0], 0, 4, Some(2), &device).unwrap();
            assert_eq!(rows(mask), ["x...", "xx..", ".xx.", "..xx"]);
        }
    }

    #[test]
    fn padding_is_masked_and_attends_to_itself() {
        for device in testing::devices() {
            let mask = causal_mask(&[1, 0], 0, 3, None, &device).unwrap();
            assert_eq!(rows(mask), ["x..", ".x.", ".xx", "x..", "xx.", "xxx"]);
        }
    }

    #[test]
    fn sequences_see_their_past_and_missing_tokens_see_what_the_last_one_sees() {
        let config = LlamaConfig { sliding_window: Some(2), ..LlamaConfig::default() };
        for device in testing::devices() {
            let sequence = |past, tokens| PagedSequence { tokens, past, blocks: &[] };
            let sequences = [sequence(0, &[1, 2, 3][..]), sequence(1, &[1])];
            let masks = LayerMasks::of_sequences(&config, &sequences, 3, 4, &device);
            let expected = ["x...", "xx..", ".xx.", "xx..", "xx..", "xx.."];
            assert_eq!(rows(masks.of(0).unwrap()), expected);
        }
    }

    #[test]
    fn layers_without_a_window_have_their_own_mask() {
        let full_attention_layers = 1;
        let config = LlamaConfig {
            sliding_window: Some(2),
            full_attention_layers,
            ..LlamaConfig::default()
        };
        let device = testing::flex();
        let masks = LayerMasks::new(&config, |window| causal_mask(&[0], 3, 1, window, &device));
        assert!(masks.of(0).is_none());
        assert_eq!(rows(masks.of(1).unwrap()), ["..xx"]);
    }

    #[test]
    fn a_new_token_attends_to_the_cache() {
        let mask = causal_mask(&[2, 0], 3, 1, None, &testing::flex()).unwrap();
        assert_eq!(rows(mask), ["..xx", "xxxx"]);
    }
}
