//! One task of a GEMM in f32: some columns of the output, for all rows.

use super::microkernel::{LhsPtr, OutMode, OutPtr, RhsPtr, microkernel};
use super::panels::with_panel_vectors;
use super::rhs_panels::RhsPanels;
use super::simd::Simd;
use super::threads::SharedSlice;
use crate::sizes::PANEL;

/// Block of the inner dimension: 16 KiB of a panel, half of the L1 cache. The sum of each block
/// starts from zero and is added to the output.
pub(super) const INNER_BLOCK: usize = 256;
/// Elements of a panel in one block of the inner dimension.
const PANEL_BLOCK_LEN: usize = INNER_BLOCK * PANEL;
/// Rows that are processed at a time: with a block of the inner dimension, a part of the L2 cache.
const ROW_BLOCK: usize = 96;
/// Maximum number of panels of a task: their block of the weight and of the rows fill the L2 cache.
pub(super) const MAX_PANELS: usize = 8;

#[derive(Debug)]
pub(super) struct GemmTask<'a> {
    /// `[rows, inner_dim]`
    pub lhs: &'a [f32],
    pub inner_dim: usize,
    pub rhs: RhsPanels<'a>,
    /// First panel and end of the panels.
    pub panels: [usize; 2],
    /// Column of the output that belongs to the first column of the right matrix.
    pub out_column: usize,
    /// Columns of the output.
    pub out_width: usize,
    pub accumulate: bool,
}

impl GemmTask<'_> {
    /// Elements of the workspace: a block of the panels, unless they are stored unpacked.
    pub fn workspace_len(&self) -> usize {
        let [first, last] = self.panels;
        match self.rhs.unpacked_panel(first) {
            Some(_) => 0,
            None => (last - first) * PANEL_BLOCK_LEN.min(self.inner_dim * PANEL),
        }
    }

    /// Overwrites the task's columns of the output, or adds to them.
    ///
    /// # Panics
    /// If the workspace, the input or the output is too short.
    #[inline(always)]
    pub fn run<S: Simd>(&self, simd: S, workspace: &mut [f32], out: &SharedSlice<f32>) {
        let [first, last] = self.panels;
        let n = self.lhs.len() / self.inner_dim;
        for from in (0..self.inner_dim).step_by(INNER_BLOCK) {
            let to = self.inner_dim.min(from + INNER_BLOCK);
            let len = (to - from) * PANEL;
            if !workspace.is_empty() {
                let block = &mut workspace[..(last - first) * len];
                self.rhs.pack(simd, self.panels, [from, to], block);
            }
            for row in (0..n).step_by(ROW_BLOCK) {
                let rows = ROW_BLOCK.min(n - row);
                let mut panel = first;
                while panel < last {
                    let (rhs, panel_stride) = match self.rhs.unpacked_panel(panel) {
                        Some(rhs) => (rhs.wrapping_add(from * PANEL), self.inner_dim * PANEL),
                        None => (workspace[(panel - first) * len..].as_ptr(), len),
                    };
                    let tile =
                        TileArgs { row, rows, from, depth: to - from, panel, rhs, panel_stride };
                    panel += self.tile(simd, &tile, last, out);
                }
            }
        }
    }

    /// Multiplies a block of rows by one or two panels; returns the number of panels.
    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        tile: &TileArgs,
        last: usize,
        out: &SharedSlice<f32>,
    ) -> usize {
        let TileArgs { row, rows, from, depth, panel, rhs, panel_stride } = *tile;
        let columns = self.rhs.columns();
        let full = |panel: usize| (panel + 1) * PANEL <= columns;
        let two = S::LANES == PANEL && panel + 1 < last && full(panel + 1);
        let lhs = self.lhs[row * self.inner_dim + from..].as_ptr();
        let lhs = LhsPtr { ptr: lhs, row_stride: self.inner_dim, column_stride: 1 };
        let rhs = RhsPtr { ptr: rhs, row_stride: PANEL, vector_stride: S::LANES };
        let accumulate = self.accumulate || from > 0;
        let at = row * self.out_width + self.out_column + panel * PANEL;
        if full(panel) {
            let out = OutPtr {
                ptr: out.ptr_at(at),
                row_stride: self.out_width,
                vector_stride: S::LANES,
                mode: if accumulate { OutMode::Add } else { OutMode::Overwrite },
            };
            // SAFETY: the left matrix has `rows` rows from `row` on, each with `depth` elements
            // from `from` on. The panel has `depth` rows of 16, and the next panel starts
            // `panel_stride` elements later. The output has these columns of these rows, and no
            // other task writes to them.
            unsafe {
                if two {
                    let rhs = RhsPtr { vector_stride: panel_stride, ..rhs };
                    microkernel::<S, 2>(simd, rows, depth, lhs, rhs, out);
                } else {
                    with_panel_vectors!(S, V => microkernel::<S, V>(simd, rows, depth, lhs, rhs, out));
                }
            }
        } else {
            // The last panel may have fewer columns in the output.
            let own_columns = columns - panel * PANEL;
            let mut sums = [[0.0_f32; PANEL]; ROW_BLOCK];
            let to = OutPtr {
                ptr: sums.as_mut_ptr().cast(),
                row_stride: PANEL,
                vector_stride: S::LANES,
                mode: OutMode::Overwrite,
            };
            // SAFETY: as above; the output is the local array with `ROW_BLOCK` rows of 16.
            unsafe {
                with_panel_vectors!(S, V => microkernel::<S, V>(simd, rows, depth, lhs, rhs, to));
            }
            for (r, sums) in sums[..rows].iter().enumerate() {
                // SAFETY: no other task writes to these columns of these rows.
                let to = unsafe { out.slice_mut(at + r * self.out_width, own_columns) };
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = if accumulate { *to + sum } else { *sum };
                }
            }
        }
        if two { 2 } else { 1 }
    }
}

#[derive(Clone, Copy)]
struct TileArgs {
    row: usize,
    rows: usize,
    /// Start of the block of the inner dimension.
    from: usize,
    /// Length of the block.
    depth: usize,
    panel: usize,
    /// The panel's block.
    rhs: *const f32,
    /// Elements from the panel's block to the next panel's.
    panel_stride: usize,
}
