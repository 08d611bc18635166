//! Dot products of a few rows with a few panels: the inner loops of the small-batch GEMM.
//!
//! Every sum has the order that it has with many rows, see `gemm_task.rs` and `bf16`: a row's output
//! does not depend on the other rows. Several panels are read at a time, so that consecutive
//! additions do not wait for each other, and memory has several streams to read.
//!
//! Vectors are never made by `std::array::from_fn` or `map`: a closure that is not inlined is not
//! compiled for the instruction set, and its calls move all sums from the registers to memory.

use half::bf16;

use super::gemm_task::INNER_BLOCK;
use super::packed_matrix::DenseElement;
use super::simd::Simd;
use crate::sizes::PANEL;

/// Sums of `R` rows with each of `P` panels, in `V` vectors.
pub(super) type Sums<F, const P: usize, const R: usize, const V: usize> = [[[F; V]; R]; P];

/// Panels that rows are multiplied by.
pub(super) trait PanelDots {
    /// Sums of each row and column.
    const SUMS: usize = 1;
    /// Factors of each column.
    const FACTORS: usize = 0;

    /// Columns whose sums start from zero and are added to the total.
    fn inner_block(&self) -> usize;

    /// The products of columns `from..to` of each row with the `P` panels from `first` on.
    ///
    /// # Panics
    /// If there are fewer panels, or rows differ in length from the panels.
    fn block_sums<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        columns: [usize; 2],
    ) -> Sums<S::F, P, R, V>;

    /// `before` plus the products of each row with the `P` panels from `first` on.
    ///
    /// # Panics
    /// If there are fewer panels, or rows differ in length from the panels.
    #[inline(always)]
    fn dot<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        before: Option<Sums<S::F, P, R, V>>,
    ) -> Sums<S::F, P, R, V> {
        let depth = rows[0].len();
        let mut total = before;
        for from in (0..depth).step_by(self.inner_block()) {
            let to = depth.min(from + self.inner_block());
            let sums = self.block_sums(simd, rows, first, [from, to]);
            total = Some(match total {
                Some(total) => add_sums(simd, total, sums),
                None => sums,
            });
        }
        total.unwrap_or_else(
            #[inline(always)]
            || zeros(simd),
        )
    }
}

/// Dense panels, `[panel][column][16]`, multiplied one column after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct DensePanels<'a, T>(pub &'a [T]);

impl<T: DenseElement> PanelDots for DensePanels<'_, T> {
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
        let dense = DenseColumns::new(self.0, rows, first, to);
        let mut sums = zeros(simd);
        for k in from..to {
            // SAFETY: there are at least `to` columns.
            unsafe { dense.add_products(simd, k, &mut sums) };
        }
        sums
    }
}

/// Panels in bf16, multiplied in the order of AVX512-BF16: the second element of a pair before the
/// first.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairedPanels<'a> {
    pub elements: &'a [bf16],
    /// A multiple of 2.
    pub inner_block: usize,
}

impl PanelDots for PairedPanels<'_> {
    fn inner_block(&self) -> usize {
        self.inner_block
    }

    #[inline(always)]
    fn block_sums<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        [from, to]: [usize; 2],
    ) -> Sums<S::F, P, R, V> {
        let dense = DenseColumns::new(self.elements, rows, first, to);
        let mut sums = zeros(simd);
        for pair in (from..to).step_by(2) {
            for k in [pair + 1, pair] {
                if k < to {
                    // SAFETY: there are at least `to` columns.
                    unsafe { dense.add_products(simd, k, &mut sums) };
                }
            }
        }
        sums
    }
}

/// Panels in bf16, multiplied in the order of AMX: in each block of 32 columns, the first elements
/// of all pairs, and the second ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct AmxPanels<'a>(pub &'a [bf16]);

impl PanelDots for AmxPanels<'_> {
    const SUMS: usize = 2;

    fn inner_block(&self) -> usize {
        32
    }

    #[inline(always)]
    fn block_sums<S: Simd, const P: usize, const R: usize, const V: usize>(
        &self,
        simd: S,
        rows: [&[f32]; R],
        first: usize,
        [from, to]: [usize; 2],
    ) -> Sums<S::F, P, R, V> {
        let dense = DenseColumns::new(self.0, rows, first, to);
        let [mut even, mut odd] = [zeros(simd); 2];
        for pair in (from..to).step_by(2) {
            // SAFETY: there are at least `to` columns.
            unsafe {
                dense.add_products(simd, pair, &mut even);
                if pair + 1 < to {
                    dense.add_products(simd, pair + 1, &mut odd);
                }
            }
        }
        add_sums(simd, even, odd)
    }
}

/// The columns of rows and of `P` dense panels.
struct DenseColumns<'a, T, const P: usize, const R: usize> {
    rows: [&'a [f32]; R],
    panels: [&'a [T]; P],
}

impl<'a, T: DenseElement, const P: usize, const R: usize> DenseColumns<'a, T, P, R> {
    /// # Panics
    /// If there are fewer than `columns` columns, or no such panels.
    #[inline(always)]
    fn new(elements: &'a [T], rows: [&'a [f32]; R], first: usize, columns: usize) -> Self {
        assert!(rows.iter().all(|row| columns <= row.len()), "rows shorter than {columns}");
        Self { rows, panels: panels_from(elements, rows[0].len(), first) }
    }

    /// Adds the products of column `k`.
    ///
    /// # Safety
    /// There are more than `k` columns.
    #[inline(always)]
    unsafe fn add_products<S: Simd, const V: usize>(
        &self,
        simd: S,
        k: usize,
        sums: &mut Sums<S::F, P, R, V>,
    ) {
        let mut column = [[simd.splat(0.0); V]; P];
        for (panel, column) in self.panels.iter().zip(&mut column) {
            for (v, elements) in column.iter_mut().enumerate() {
                let at = panel.as_ptr().wrapping_add(k * PANEL + v * S::LANES);
                // SAFETY: the caller guarantees that the panel has the column.
                *elements = unsafe { T::load(simd, at) };
            }
        }
        // SAFETY: the caller guarantees that the rows have the column.
        unsafe { add_products(simd, self.rows, k, column, sums) };
    }
}

/// The `P` panels from `first` on, of `columns` columns of 16 each.
///
/// # Panics
/// If there are fewer panels.
#[inline(always)]
pub(super) fn panels_from<T, const P: usize>(
    elements: &[T],
    columns: usize,
    first: usize,
) -> [&[T]; P] {
    let len = columns * PANEL;
    let mut panels = [&elements[..0]; P];
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = &elements[(first + p) * len..][..len];
    }
    panels
}

#[inline(always)]
pub(super) fn zeros<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
) -> Sums<S::F, P, R, V> {
    [[[simd.splat(0.0); V]; R]; P]
}

/// Adds the products of element `k` of each row with one column of each panel.
///
/// # Safety
/// The rows have more than `k` elements.
#[inline(always)]
pub(super) unsafe fn add_products<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
    rows: [&[f32]; R],
    k: usize,
    column: [[S::F; V]; P],
    sums: &mut Sums<S::F, P, R, V>,
) {
    let mut x = [simd.splat(0.0); R];
    for (x, row) in x.iter_mut().zip(rows) {
        // SAFETY: the caller guarantees that the row has the element.
        *x = simd.splat(unsafe { *row.get_unchecked(k) });
    }
    for (column, sums) in column.into_iter().zip(sums) {
        for (x, sums) in x.into_iter().zip(sums) {
            for (element, sum) in column.into_iter().zip(sums) {
                *sum = simd.mul_add(x, element, *sum);
            }
        }
    }
}

/// `total + sums`
#[inline(always)]
fn add_sums<S: Simd, const P: usize, const R: usize, const V: usize>(
    simd: S,
    total: Sums<S::F, P, R, V>,
    mut sums: Sums<S::F, P, R, V>,
) -> Sums<S::F, P, R, V> {
    for (total, sums) in total.into_iter().zip(&mut sums) {
        for (total, sums) in total.into_iter().zip(sums) {
            for (total, sum) in total.into_iter().zip(sums) {
                *sum = simd.add(total, *sum);
            }
        }
    }
    sums
}
