//! GEMM of batches of up to four rows. Memory bandwidth limits it, so elements are converted as
//! they are read.
//!
//! ```text
//! elements of some panels ─► f32 ─► × one element of each row ─► sums, in the order of the other GEMMs
//! ```

use super::bf16::{Bf16Kernel, SumOrder, round_elements};
use super::concat::{OffsetWeight, panel_groups};
use super::packed_matrix::PackedData;
use super::panel_dots::{AmxPanels, DensePanels, PairedPanels, PanelDots, Sums, zeros};
use super::panels::{for_each_panel_tile, max_panels, with_panel_vectors};
use super::quantized_dots::QuantizedDots;
use super::simd::{Simd, SimdLevel, dispatch};
use super::threads::{self, SharedSlice};
use super::workspace;
use crate::sizes::PANEL;

/// Maximum number of rows.
pub(super) const MAX_ROWS: usize = 4;
/// Multiplications below which waking a second thread takes longer than it saves.
const MIN_PARALLEL_MULTIPLIES: usize = 1 << 16;
/// Panels that are multiplied at a time, at most.
const PANELS_AT_A_TIME: usize = 4;

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
    let panels_per_task = if single_threaded {
        total
    } else {
        threads::items_per_task(total, PANELS_AT_A_TIME, total)
    };
    let groups = panel_groups(weights, panels_per_task);
    let out = SharedSlice::new(out);
    let kernel = Bf16Kernel::select(level, weights);
    let rounded_len = if kernel.is_some() { input.len() } else { 0 };
    workspace::with_buffer(rounded_len, |rounded| {
        let (input, order) = match kernel {
            Some(kernel) => {
                round_elements(kernel, input, rounded);
                (&*rounded, kernel.sum_order(columns))
            }
            None => (input, SumOrder::Plain),
        };
        let work = |index: usize| {
            let (weight, panels) = groups[index];
            let task = SmallBatchTask { input, columns, weight, order, panels, width, accumulate };
            // Dispatched inside of the loop: only code inlined into the call is compiled for the
            // level, and the loop over tasks is not.
            dispatch!(level, simd => match input.len() / columns {
                0 => (),
                1 => task.run::<_, 1>(simd, &out),
                2 => task.run::<_, 2>(simd, &out),
                3 => task.run::<_, 3>(simd, &out),
                _ => task.run::<_, 4>(simd, &out),
            });
        };
        if single_threaded {
            (0..groups.len()).for_each(work);
        } else {
            threads::parallel_for(groups.len(), work);
        }
    });
}

struct SmallBatchTask<'a> {
    input: &'a [f32],
    columns: usize,
    weight: OffsetWeight<'a>,
    /// The order of sums with a weight in bf16.
    order: SumOrder,
    /// First panel and end of the panels.
    panels: [usize; 2],
    width: usize,
    accumulate: bool,
}

impl SmallBatchTask<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(&self, simd: S, out: &SharedSlice<f32>) {
        let rows: [&[f32]; R] =
            std::array::from_fn(|r| &self.input[r * self.columns..][..self.columns]);
        with_panel_vectors!(S, V => match &self.weight.weight.data {
            PackedData::F32(elements) => {
                self.multiply::<S, R, V, _>(simd, rows, &DensePanels(elements.as_slice()), out);
            }
            PackedData::Bf16(elements) => {
                let elements = elements.as_slice();
                match self.order {
                    SumOrder::Plain => {
                        self.multiply::<S, R, V, _>(simd, rows, &DensePanels(elements), out);
                    }
                    SumOrder::Pairs { inner_block } => {
                        let panels = PairedPanels { elements, inner_block };
                        self.multiply::<S, R, V, _>(simd, rows, &panels, out);
                    }
                    SumOrder::Amx => {
                        self.multiply::<S, R, V, _>(simd, rows, &AmxPanels(elements), out);
                    }
                }
            }
            PackedData::F16(elements) => {
                self.multiply::<S, R, V, _>(simd, rows, &DensePanels(elements.as_slice()), out);
            }
            PackedData::Quantized(panels) if panels.bits == 8 => {
                self.multiply::<S, R, V, _>(simd, rows, &QuantizedDots::<8>(panels), out);
            }
            PackedData::Quantized(panels) => {
                self.multiply::<S, R, V, _>(simd, rows, &QuantizedDots::<4>(panels), out);
            }
        });
    }

    /// Multiplies the rows by all panels of the task.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const V: usize, D: PanelDots>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        panels: &D,
        out: &SharedSlice<f32>,
    ) {
        let [first, end] = self.panels;
        for_each_panel_tile!(max_panels::<S>(R * D::SUMS + D::FACTORS), panel in [first, end], P => {
            let before = self.accumulate.then(
                #[inline(always)]
                || self.read(simd, panel, out),
            );
            let sums = panels.dot::<S, P, R, V>(simd, rows, panel, before);
            self.write(simd, panel, &sums, out);
        });
    }

    /// Where a row of a panel is in the output, and how many of its columns exist.
    #[inline(always)]
    fn output(&self, panel: usize, row: usize) -> (usize, usize) {
        let [weight_rows, _columns] = self.weight.weight.dims();
        let at = row * self.width + self.weight.column_offset + panel * PANEL;
        (at, PANEL.min(weight_rows - panel * PANEL))
    }

    /// The values of `P` panels in the output.
    #[inline(always)]
    fn read<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        panel: usize,
        out: &SharedSlice<f32>,
    ) -> Sums<S::F, P, R, V> {
        let mut sums = zeros(simd);
        for (p, sums) in sums.iter_mut().enumerate() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let (at, own_columns) = self.output(panel + p, r);
                let mut lanes = [0.0; PANEL];
                // SAFETY: no other task accesses these columns of these rows.
                lanes[..own_columns].copy_from_slice(unsafe { out.slice_mut(at, own_columns) });
                for (sum, lanes) in sums.iter_mut().zip(lanes.chunks_exact(S::LANES)) {
                    *sum = simd.read(lanes);
                }
            }
        }
        sums
    }

    /// Writes the sums of `P` panels to the output.
    #[inline(always)]
    fn write<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        panel: usize,
        sums: &Sums<S::F, P, R, V>,
        out: &SharedSlice<f32>,
    ) {
        for (p, sums) in sums.iter().enumerate() {
            for (r, sums) in sums.iter().enumerate() {
                let mut lanes = [0.0_f32; PANEL];
                for (to, &sum) in lanes.chunks_exact_mut(S::LANES).zip(sums) {
                    simd.write(to, sum);
                }
                let (at, own_columns) = self.output(panel + p, r);
                // SAFETY: no other task accesses these columns of these rows.
                let to = unsafe { out.slice_mut(at, own_columns) };
                to.copy_from_slice(&lanes[..own_columns]);
            }
        }
    }
}
