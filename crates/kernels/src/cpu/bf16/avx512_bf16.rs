//! Tiles with AVX512-BF16: one instruction adds two products to each of 16 sums.
//!
//! A tile of twelve rows and two panels has its sums in 24 registers, and takes 24 such
//! instructions and 14 loads for each pair of the inner dimension.

use std::arch::x86_64::{
    __m512, __m512bh, _mm_loadu_si128, _mm512_add_ps, _mm512_castsi128_si512, _mm512_dpbf16_ps,
    _mm512_inserti32x4, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::super::simd::Avx512Bf16;
use super::tile_kernel::{BLOCK_LEN, HALF_BLOCK_LEN, INNER_BLOCK, TileArgs, TileKernel};
use crate::sizes::PANEL;

impl TileKernel for Avx512Bf16 {
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn transpose_pairs(&self, columns: &[u16; HALF_BLOCK_LEN], to: &mut [u16; HALF_BLOCK_LEN]) {
        /// Elements of a 128-bit lane: four pairs of one column.
        const LANE: usize = 8;
        // SAFETY: `self` proves that the instructions exist; all indices are in the arrays.
        unsafe {
            for half in 0..2 {
                // Every fourth column goes into the same vector, so that each lane is transposed by
                // itself.
                let [a, b, c, d] = std::array::from_fn(|column| {
                    let start = columns.as_ptr().add(column * PANEL + half * LANE);
                    let lane = |i: usize| _mm_loadu_si128(start.add(i * 4 * PANEL).cast());
                    let lanes = _mm512_castsi128_si512(lane(0));
                    let lanes = _mm512_inserti32x4::<1>(lanes, lane(1));
                    let lanes = _mm512_inserti32x4::<2>(lanes, lane(2));
                    _mm512_inserti32x4::<3>(lanes, lane(3))
                });
                let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
                let pairs = [
                    _mm512_unpacklo_epi64(ab, cd),
                    _mm512_unpackhi_epi64(ab, cd),
                    _mm512_unpacklo_epi64(ab_high, cd_high),
                    _mm512_unpackhi_epi64(ab_high, cd_high),
                ];
                for (i, pair) in pairs.into_iter().enumerate() {
                    let to = to.as_mut_ptr().add((half * 4 + i) * 2 * PANEL);
                    _mm512_storeu_si512(to.cast(), pair);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile(&mut self, tile: &TileArgs) {
        // SAFETY: the caller guarantees that the tile is valid.
        unsafe {
            if tile.columns > PANEL {
                row_tiles::<2>(*self, tile);
            } else {
                row_tiles::<1>(*self, tile);
            }
        }
    }
}

/// Multiplies a tile of `V` panels.
///
/// # Safety
/// As [`TileKernel::tile`].
#[inline(always)]
unsafe fn row_tiles<const V: usize>(proof: Avx512Bf16, tile: &TileArgs) {
    let mut done = 0;
    macro_rules! tiles {
        ($($R:literal)*) => {{
            $(
                while tile.rows - done >= $R {
                    // SAFETY: the caller guarantees it for all rows, and `done + R <= rows`.
                    unsafe { row_tile::<$R, V>(proof, done, tile) };
                    done += $R;
                }
            )*
        }};
    }
    tiles!(12 8 4 2 1);
}

/// Multiplies the `R` rows from `first` on.
///
/// # Safety
/// As [`TileKernel::tile`], for these rows.
#[inline(always)]
unsafe fn row_tile<const R: usize, const V: usize>(
    _proof: Avx512Bf16,
    first: usize,
    tile: &TileArgs,
) {
    // SAFETY: the caller guarantees that the tile is valid, and the proof that the instructions
    // exist. The transmuted types are vectors of the same size.
    unsafe {
        let mut sums: [[__m512; V]; R] = [[_mm512_setzero_ps(); V]; R];
        for block in 0..tile.blocks {
            let lhs = tile.lhs.add(block * tile.lhs_block_stride + first * INNER_BLOCK);
            let rhs = tile.rhs.add(block * BLOCK_LEN);
            for pair in 0..INNER_BLOCK / 2 {
                let columns: [__m512bh; V] = std::array::from_fn(|v| {
                    let at = rhs.add(v * tile.rhs_panel_stride + pair * 2 * PANEL);
                    transmute(_mm512_loadu_si512(at.cast()))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = lhs.add(r * INNER_BLOCK + pair * 2).cast::<i32>().read_unaligned();
                    let x: __m512bh = transmute(_mm512_set1_epi32(x));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(*sum, x, column);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = tile.out.add((first + r) * tile.out_row_stride + v * PANEL);
                let own_columns = PANEL.min(tile.columns - v * PANEL);
                let lanes = u16::MAX >> (PANEL - own_columns);
                let sum = if tile.accumulate {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(to, lanes, sum);
            }
        }
    }
}
