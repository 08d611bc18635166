//! Dot products of a few rows with a few panels: the inner loops of the small-batch GEMM.
//!
//! Every sum has the order that it has with many rows, see `gemm_task.rs` and `bf16`: a row's output
//! does not depend on the other rows. Several panels are read at a time, so that consecutive
//! additions do not wait for each other, and memory has several streams to read.

use half::bf16;

use super::gemm_task::INNER_BLOCK;
use super::packed_matrix::DenseElement;
use super::quantized_panels::{BlockVectors, QuantizedPanels};
use super::simd::{Simd, prefetch};
use crate::sizes::PANEL;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// How far ahead quantized elements are prefetched, in bytes.
const PREFETCH_DISTANCE: usize = 2048;

/// Sums of `R` rows with each of `P` panels, in `V` vectors.
pub(super) type Sums<F, const P: usize, const R: usize, const V: usize> = [[[F; V]; R]; P];

/// Panels that rows are multiplied by.
pub(super) trait PanelDots {
    /// `before` plus the products of each row with the `P` panels from `first` on.
    ///
    /// # Panics
    /// If there are fewer panels, or rows differ in length from the panels.
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V>;
}

/// Dense panels, `[panel][column][16]`: sums of blocks of the inner dimension, added in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct DensePanels<'a, T>(pub &'a [T]);

impl<T: DenseElement> PanelDots for DensePanels<'_, T> {
    #[inline(always)]
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V> {
        let depth = rows[0].len();
        let panels = panels_from::<T, P>(self.0, depth, first);
        let mut total = before;
        for from in (0..depth).step_by(INNER_BLOCK) {
            let mut sums = zeros(simd);
            for k in from..depth.min(from + INNER_BLOCK) {
                // SAFETY: `k` is below the length of the rows and of the panels.
                unsafe {
                    let columns = load_columns(simd, panels, k);
                    add_products(simd, splat_column(simd, rows, k), columns, &mut sums);
                }
            }
            total = Some(add_to(simd, total, sums));
        }
        total.unwrap_or_else(|| zeros(simd))
    }
}

/// Panels in bf16, multiplied in the order of AVX512-BF16: the second element of a pair before the
/// first.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairedPanels<'a> {
    pub elements: &'a [bf16],
    /// Elements of the inner dimension, a multiple of 2, whose sums are added to the total.
    pub inner_block: usize,
}

impl PanelDots for PairedPanels<'_> {
    #[inline(always)]
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V> {
        let depth = rows[0].len();
        let panels = panels_from::<bf16, P>(self.elements, depth, first);
        let mut total = before;
        for from in (0..depth).step_by(self.inner_block) {
            let to = depth.min(from + self.inner_block);
            let mut sums = zeros(simd);
            for pair in (from..to).step_by(2) {
                for k in [pair + 1, pair] {
                    if k < to {
                        // SAFETY: `k` is below the length of the rows and of the panels.
                        unsafe {
                            let columns = load_columns(simd, panels, k);
                            add_products(simd, splat_column(simd, rows, k), columns, &mut sums);
                        }
                    }
                }
            }
            total = Some(add_to(simd, total, sums));
        }
        total.unwrap_or_else(|| zeros(simd))
    }
}

/// Panels in bf16, multiplied in the order of AMX: in each block of 32 of the inner dimension, the
/// first elements of all pairs, and the second ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct AmxPanels<'a>(pub &'a [bf16]);

impl PanelDots for AmxPanels<'_> {
    #[inline(always)]
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V> {
        const BLOCK: usize = 32;
        let depth = rows[0].len();
        let panels = panels_from::<bf16, P>(self.0, depth, first);
        let mut total = before.unwrap_or_else(|| zeros(simd));
        for from in (0..depth).step_by(BLOCK) {
            let to = depth.min(from + BLOCK);
            let mut sums: [Sums<S::F, P, R, V>; 2] = [zeros(simd), zeros(simd)];
            let whole = to - (to - from) % 2;
            for pair in (from..whole).step_by(2) {
                for (i, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: both elements are below the length of the rows and of the panels.
                    unsafe {
                        let columns = load_columns(simd, panels, pair + i);
                        add_products(simd, splat_column(simd, rows, pair + i), columns, sums);
                    }
                }
            }
            if whole < to {
                // SAFETY: as above.
                unsafe {
                    let columns = load_columns(simd, panels, whole);
                    add_products(simd, splat_column(simd, rows, whole), columns, &mut sums[0]);
                }
            }
            let [even, odd] = sums;
            total = add_to(simd, Some(total), add_to(simd, Some(even), odd));
        }
        total
    }
}

/// Quantized panels: as dense ones, of the dequantized elements.
impl PanelDots for QuantizedPanels {
    #[inline(always)]
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V> {
        let depth = rows[0].len();
        let len = self.block_len;
        assert!(INNER_BLOCK.is_multiple_of(len), "blocks of {len}");
        let per_byte = 8 / self.bits;
        let quants = panels_from::<u8, P>(self.quants.as_slice(), depth / per_byte, first);
        let mut total = before;
        for from in (0..depth).step_by(INNER_BLOCK) {
            let mut sums = zeros(simd);
            for from in (from..depth.min(from + INNER_BLOCK)).step_by(len) {
                let blocks: [[BlockVectors<S>; V]; P] = std::array::from_fn(|p| {
                    let block = (first + p) * (depth / len) + from / len;
                    std::array::from_fn(|v| self.block(simd, block * PANEL + v * S::LANES))
                });
                let quants = quants.map(|quants| {
                    let quants = quants.wrapping_add(from / per_byte * PANEL);
                    prefetch_ahead(quants, len / per_byte * PANEL);
                    quants
                });
                for byte in 0..len / per_byte {
                    let bytes = quants.map(|quants| quants.wrapping_add(byte * PANEL));
                    // SAFETY: the panels have 16 bytes for each `per_byte` elements of a row, and
                    // `byte * per_byte` is within the block.
                    unsafe {
                        if per_byte == 1 {
                            let columns = std::array::from_fn(|p| {
                                std::array::from_fn(|v| {
                                    let quant = simd.load_u8(bytes[p].add(v * S::LANES));
                                    blocks[p][v].dequantize(quant)
                                })
                            });
                            let x = splat_column(simd, rows, from + byte);
                            add_products(simd, x, columns, &mut sums);
                        } else {
                            let pairs: [[_; V]; P] = std::array::from_fn(|p| {
                                std::array::from_fn(|v| {
                                    let quants = simd.load_nibbles(bytes[p].add(v * S::LANES));
                                    let (low, high) = quants;
                                    let block = blocks[p][v];
                                    (block.dequantize(low), block.dequantize(high))
                                })
                            });
                            let k = from + 2 * byte;
                            let low = pairs.map(|pairs| pairs.map(|(low, _)| low));
                            let high = pairs.map(|pairs| pairs.map(|(_, high)| high));
                            add_products(simd, splat_column(simd, rows, k), low, &mut sums);
                            add_products(simd, splat_column(simd, rows, k + 1), high, &mut sums);
                        }
                    }
                }
            }
            total = Some(add_to(simd, total, sums));
        }
        total.unwrap_or_else(|| zeros(simd))
    }
}

#[inline(always)]
fn zeros<S: Simd, const P: usize, const R: usize, const V: usize>(simd: S) -> Sums<S::F, P, R, V> {
    [[[simd.splat(0.0); V]; R]; P]
}

/// Pointers to the `P` panels from `first` on, of `depth` columns of 16 each.
#[inline(always)]
fn panels_from<T, const P: usize>(elements: &[T], depth: usize, first: usize) -> [*const T; P] {
    let len = depth * PANEL;
    let elements = &elements[first * len..][..P * len];
    std::array::from_fn(|p| elements[p * len..].as_ptr())
}

/// Element `k` of each row, in every lane.
///
/// # Safety
/// All rows have more than `k` elements.
#[inline(always)]
unsafe fn splat_column<S: Simd, const R: usize>(simd: S, rows: [&[f32]; R], k: usize) -> [S::F; R] {
    // SAFETY: the caller guarantees that the rows have the element.
    std::array::from_fn(|r| simd.splat(unsafe { *rows[r].get_unchecked(k) }))
}

/// Column `k` of each panel.
///
/// # Safety
/// All panels have more than `k` columns of 16.
#[inline(always)]
unsafe fn load_columns<S: Simd, T: DenseElement, const P: usize, const V: usize>(
    simd: S,
    panels: [*const T; P],
    k: usize,
) -> [[S::F; V]; P] {
    std::array::from_fn(|p| {
        let column = panels[p].wrapping_add(k * PANEL);
        // SAFETY: the caller guarantees that the panel has the column.
        std::array::from_fn(|v| unsafe { T::load(simd, column.wrapping_add(v * S::LANES)) })
    })
}

/// Adds the products of one element of each row with one column of each panel.
#[inline(always)]
fn add_products<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
    x: [S::F; R],
    columns: [[S::F; V]; P],
    sums: &mut Sums<S::F, P, R, V>,
) {
    for (columns, sums) in columns.into_iter().zip(sums) {
        for (x, sums) in x.into_iter().zip(sums) {
            for (column, sum) in columns.into_iter().zip(sums) {
                *sum = simd.mul_add(x, column, *sum);
            }
        }
    }
}

/// `total + sums`, or `sums` without a total.
#[inline(always)]
fn add_to<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
    total: Option<Sums<S::F, P, R, V>>,
    mut sums: Sums<S::F, P, R, V>,
) -> Sums<S::F, P, R, V> {
    let Some(total) = total else { return sums };
    for (total, sums) in total.into_iter().zip(&mut sums) {
        for (total, sums) in total.into_iter().zip(sums) {
            for (total, sum) in total.into_iter().zip(sums) {
                *sum = simd.add(total, *sum);
            }
        }
    }
    sums
}

/// Prefetches `bytes` bytes at [`PREFETCH_DISTANCE`] after `from`. The processor's own prefetcher
/// does not read far enough ahead to keep memory busy.
#[inline(always)]
fn prefetch_ahead(from: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(CACHE_LINE) {
        prefetch(from.wrapping_add(PREFETCH_DISTANCE + line));
    }
}
