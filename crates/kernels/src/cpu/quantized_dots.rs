//! Dot products of a few rows with a few quantized panels, in the order of the dequantized elements.

use super::gemm_task::INNER_BLOCK;
use super::panel_dots::{PanelDots, Sums, add_products, panels_from, zeros};
use super::quantized_panels::{QuantizedPanels, dequantize};
use super::simd::{Simd, prefetch};
use crate::sizes::PANEL;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// How far ahead elements are prefetched, in bytes. The processor's own prefetcher does not read far
/// enough ahead to keep memory busy.
const PREFETCH_DISTANCE: usize = 2048;

/// Quantized panels of `BITS` bits: 8 or 4.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuantizedDots<'a, const BITS: usize>(pub &'a QuantizedPanels);

impl<const BITS: usize> PanelDots for QuantizedDots<'_, BITS> {
    /// The scale and the offset.
    const FACTORS: usize = 2;

    fn inner_block(&self) -> usize {
        INNER_BLOCK
    }

    #[inline(always)]
    fn block_sums<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        [from, to]: [usize; 2],
    ) -> Sums<S::F, P, R, V> {
        let Self(weight) = self;
        let (depth, len) = (rows[0].len(), weight.block_len);
        assert_eq!(weight.bits, BITS, "bits of an element");
        assert!(
            rows.iter().all(|row| row.len() == depth) && to <= depth,
            "{from}..{to} of {depth}"
        );
        let whole = [from, to].iter().all(|column| column.is_multiple_of(len));
        assert!(whole && len.is_multiple_of(Self::LINE_COLUMNS), "{from}..{to} in blocks of {len}");
        let panels = panels_from::<u8, P>(weight.quants.as_slice(), depth * BITS / 8, first);
        let mut sums = zeros(simd);
        for from in (from..to).step_by(len) {
            let mut scales = [[simd.splat(0.0); V]; P];
            let mut offsets = scales;
            for p in 0..P {
                for v in 0..V {
                    let block = (first + p) * (depth / len) + from / len;
                    let at = block * PANEL + v * S::LANES;
                    scales[p][v] = weight.scales.load(simd, at);
                    offsets[p][v] = weight.offsets(simd, at, scales[p][v]);
                }
            }
            for from in (from..from + len).step_by(Self::LINE_COLUMNS) {
                prefetch_ahead(panels, Self::bytes(from));
                for k in (from..from + Self::LINE_COLUMNS).step_by(8 / BITS) {
                    // The second column only with two columns in a byte.
                    let mut columns = [[[simd.splat(0.0); V]; P]; 2];
                    for p in 0..P {
                        for v in 0..V {
                            let at = panels[p].as_ptr();
                            let at = at.wrapping_add(Self::bytes(k) + v * S::LANES);
                            let (scale, offset) = (scales[p][v], offsets[p][v]);
                            // SAFETY: the panel has the bytes of `depth` columns.
                            unsafe {
                                if BITS == 8 {
                                    let quants = simd.load_u8(at);
                                    columns[0][p][v] = dequantize(simd, quants, scale, offset);
                                } else {
                                    let (low, high) = simd.load_nibbles(at);
                                    columns[0][p][v] = dequantize(simd, low, scale, offset);
                                    columns[1][p][v] = dequantize(simd, high, scale, offset);
                                }
                            }
                        }
                    }
                    for (i, column) in columns.into_iter().take(8 / BITS).enumerate() {
                        // SAFETY: `k + i` is below `to`, which is at most the length of the rows.
                        unsafe { add_products(simd, rows, k + i, column, &mut sums) };
                    }
                }
            }
        }
        sums
    }
}

impl<const BITS: usize> QuantizedDots<'_, BITS> {
    /// Columns of a panel in a cache line.
    const LINE_COLUMNS: usize = CACHE_LINE / PANEL * 8 / BITS;

    /// Bytes of some columns of a panel.
    const fn bytes(columns: usize) -> usize {
        columns * BITS / 8 * PANEL
    }
}

/// Prefetches the cache lines that are multiplied some time after those at `from` of each panel: of
/// these panels, or of those that follow the last.
#[inline(always)]
fn prefetch_ahead<const P: usize>(panels: [&[u8]; P], from: usize) {
    let len = panels[0].len();
    let mut ahead = from + PREFETCH_DISTANCE;
    if ahead >= len {
        ahead += (P - 1) * len;
    }
    for panel in panels {
        prefetch(panel.as_ptr().wrapping_add(ahead));
    }
}
