//! Causal masks with padding and sliding windows, as tensors.
//!
//! The fused kernels apply the same rule without a mask tensor: `kernels/src/cpu/attention/mask.rs`.

use burn::tensor::{Bool, Device, Tensor, TensorData};

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
    fn a_new_token_attends_to_the_cache() {
        let mask = causal_mask(&[2, 0], 3, 1, None, &testing::flex()).unwrap();
        assert_eq!(rows(mask), ["..xx", "xxxx"]);
    }
}
