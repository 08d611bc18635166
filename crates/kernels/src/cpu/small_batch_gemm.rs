//! GEMM of batches of up to four rows. Memory bandwidth limits it, so elements are converted as
//! they are read.
//!
//! ```text
//! elements of a panel ─► f32 ─► × one element of each row ─► sums, several columns in flight
//!                        quantized: sums of a block × its scale, plus its minimum
//! ```

use super::concat::{OffsetWeight, panel_groups};
use super::packed_matrix::{DenseElement, PackedData};
use super::panel_dots::{dot, dot_u4, dot_u8};
use super::panels::with_panel_vectors;
use super::quantized_panels::QuantizedPanels;
use super::simd::{Simd, SimdLevel, dispatch, prefetch};
use super::threads::{self, SharedSlice};
use super::workspace;
use crate::sizes::PANEL;

/// Maximum number of rows.
pub(super) const MAX_ROWS: usize = 4;
/// Multiplications below which waking a second thread takes longer than it saves.
const MIN_PARALLEL_MULTIPLIES: usize = 1 << 16;
/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// How far ahead quantized elements are prefetched, in bytes.
const PREFETCH_DISTANCE: usize = 2048;

/// As [`gemm`](super::gemm::gemm), for 0 to [`MAX_ROWS`] rows; `width` is the width of the output.
pub(super) fn small_batch_gemm(
    level: SimdLevel,
    input: &[f32],
    weights: &[OffsetWeight],
    width: usize,
    out: &mut [f32],
    accumulate: bool,
) {
    let [_rows, columns] = weights[0].weight.dims();
    let total = weights.iter().map(|weight| weight.weight.panels()).sum::<usize>();
    let single_threaded = input.len() * total * PANEL <= MIN_PARALLEL_MULTIPLIES;
    let panels_per_task =
        if single_threaded { total } else { threads::items_per_task(total, 1, total) };
    let groups = panel_groups(weights, panels_per_task);
    let out = SharedSlice::new(out);
    let work = |index: usize| {
        let (weight, panels) = groups[index];
        let task = SmallBatchTask { input, columns, weight, panels, width, accumulate };
        // Dispatched inside of the loop: only code inlined into the call is compiled for the level,
        // and the loop over tasks is not.
        workspace::with_buffer(task.workspace_len(), |row_sums| {
            dispatch!(level, simd => match input.len() / columns {
                0 => (),
                1 => task.run::<_, 1>(simd, row_sums, &out),
                2 => task.run::<_, 2>(simd, row_sums, &out),
                3 => task.run::<_, 3>(simd, row_sums, &out),
                _ => task.run::<_, 4>(simd, row_sums, &out),
            });
        });
    };
    if single_threaded {
        (0..groups.len()).for_each(work);
    } else {
        threads::parallel_for(groups.len(), work);
    }
}

struct SmallBatchTask<'a> {
    input: &'a [f32],
    columns: usize,
    weight: OffsetWeight<'a>,
    /// First panel and end of the panels.
    panels: [usize; 2],
    width: usize,
    accumulate: bool,
}

impl SmallBatchTask<'_> {
    /// Elements of the workspace: for quantized weights, one for each block of each row.
    fn workspace_len(&self) -> usize {
        match &self.weight.weight.data {
            PackedData::Quantized(panels) => self.input.len() / panels.block_len,
            _ => 0,
        }
    }

    #[inline(always)]
    fn run<S: Simd, const R: usize>(&self, simd: S, row_sums: &mut [f32], out: &SharedSlice<f32>) {
        let rows: [&[f32]; R] =
            std::array::from_fn(|r| &self.input[r * self.columns..][..self.columns]);
        with_panel_vectors!(S, V => match &self.weight.weight.data {
            PackedData::F32(elements) => {
                self.dense_panels::<S, f32, R, V>(simd, rows, elements.as_slice(), out);
            }
            PackedData::Bf16(elements) => {
                self.dense_panels::<S, half::bf16, R, V>(simd, rows, elements.as_slice(), out);
            }
            PackedData::F16(elements) => {
                self.dense_panels::<S, half::f16, R, V>(simd, rows, elements.as_slice(), out);
            }
            PackedData::Quantized(panels) => {
                self.quantized_panels::<S, R, V>(simd, rows, panels, row_sums, out);
            }
        });
    }

    /// Multiplies by all panels of the task, of a dense weight with these `elements`.
    #[inline(always)]
    fn dense_panels<S: Simd, T: DenseElement, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        elements: &[T],
        out: &SharedSlice<f32>,
    ) {
        let [first, last] = self.panels;
        let len = self.columns * PANEL;
        for panel in first..last {
            let sums = dot::<S, T, R, V>(simd, rows, &elements[panel * len..][..len]);
            self.store_panel(simd, panel, &sums, out);
        }
    }

    /// Multiplies by all panels of the task, of a quantized weight.
    #[inline(always)]
    fn quantized_panels<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        panels: &QuantizedPanels,
        row_sums: &mut [f32],
        out: &SharedSlice<f32>,
    ) {
        let len = panels.block_len;
        let count = self.columns / len;
        // The sum of each row over each block: the factor of the minimum or the zero point.
        for (row, sums) in rows.iter().zip(row_sums.chunks_exact_mut(count)) {
            for (sum, elements) in sums.iter_mut().zip(row.chunks_exact(len)) {
                *sum = elements.iter().sum();
            }
        }
        let per_byte = 8 / panels.bits;
        let quants = panels.quants.as_slice();
        let zero_point = simd.splat(-panels.zero_point);
        let [first, last] = self.panels;
        for panel in first..last {
            let mut sums = [[simd.splat(0.0); V]; R];
            for block in 0..count {
                let start = (panel * self.columns + block * len) / per_byte * PANEL;
                // SAFETY: the block is in bounds: `len / per_byte` times 16 bytes.
                let from = unsafe { quants.as_ptr().add(start) };
                prefetch_ahead(from, len / per_byte * PANEL);
                let parts: [&[f32]; R] = rows.map(|row| &row[block * len..][..len]);
                // SAFETY: `from` points to the block's bytes.
                let block_sums = unsafe {
                    if per_byte == 1 {
                        dot_u8::<S, R, V>(simd, parts, from)
                    } else {
                        dot_u4::<S, R, V>(simd, parts, from)
                    }
                };
                for v in 0..V {
                    let at = (panel * count + block) * PANEL + v * S::LANES;
                    let scale = panels.scales.load(simd, at);
                    let min = panels.mins.as_ref().map(|mins| mins.load(simd, at));
                    for (r, (sums, block_sums)) in sums.iter_mut().zip(block_sums).enumerate() {
                        let row_sum = simd.splat(row_sums[r * count + block]);
                        let (sum, block_sum) = (&mut sums[v], block_sums[v]);
                        *sum = match min {
                            Some(min) => {
                                simd.mul_add(min, row_sum, simd.mul_add(block_sum, scale, *sum))
                            }
                            None => simd.mul_add(
                                simd.mul_add(zero_point, row_sum, block_sum),
                                scale,
                                *sum,
                            ),
                        };
                    }
                }
            }
            self.store_panel(simd, panel, &sums, out);
        }
    }

    /// Writes a panel's sums to the output, or adds them.
    #[inline(always)]
    fn store_panel<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        panel: usize,
        sums: &[[S::F; V]; R],
        out: &SharedSlice<f32>,
    ) {
        let [weight_rows, _columns] = self.weight.weight.dims();
        // The last panel may have fewer columns in the output.
        let own_columns = PANEL.min(weight_rows - panel * PANEL);
        for (r, sums) in sums.iter().enumerate() {
            let mut row = [0.0_f32; PANEL];
            for (to, &sum) in row.chunks_exact_mut(S::LANES).zip(sums) {
                simd.write(to, sum);
            }
            let at = r * self.width + self.weight.column_offset + panel * PANEL;
            // SAFETY: no other task writes to these columns of these rows.
            let to = unsafe { out.slice_mut(at, own_columns) };
            if self.accumulate {
                to.iter_mut().zip(row).for_each(|(to, sum)| *to += sum);
            } else {
                to.copy_from_slice(&row[..own_columns]);
            }
        }
    }
}

/// Prefetches `bytes` bytes at [`PREFETCH_DISTANCE`] after `from`. The processor's own prefetcher
/// does not read far enough ahead to keep memory busy.
#[inline(always)]
fn prefetch_ahead<T>(from: *const T, bytes: usize) {
    for line in (0..bytes).step_by(CACHE_LINE) {
        prefetch(from.cast::<u8>().wrapping_add(PREFETCH_DISTANCE + line));
    }
}
