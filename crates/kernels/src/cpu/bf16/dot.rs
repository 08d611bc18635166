//! TileKernel of AVX512-BF16: an instruction adds two products to each of 16 sums.
//!
//! Twelve rows times two vectors of columns: 24 registers of sums, and for a pair of terms 24
//! such instructions beside 14 loads.

use std::arch::x86_64::{
    __m512, __m512bh, _mm_loadu_si128, _mm512_add_ps, _mm512_castsi128_si512, _mm512_dpbf16_ps,
    _mm512_inserti32x4, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::super::packed::PANEL;
use super::super::simd::Avx512Bf16;
use super::task::{Tile, TileKernel};
use super::{BLOCK, pairs};

impl TileKernel for Avx512Bf16 {
    const ROWS: usize = 12;

    #[inline(always)]
    fn turn(&self, columns: &[u16; pairs::HALF_BLOCK_LEN], to: &mut [u16; pairs::HALF_BLOCK_LEN]) {
        /// Numbers of a lane: of one column, those of four pairs.
        const LANE: usize = 8;
        // SAFETY: `self` proves that the instructions exist; places are in the arrays.
        unsafe {
            for half in 0..2 {
                // Lanes of every fourth column, so that each lane is turned over by itself.
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
    unsafe fn tile(&mut self, tile: &Tile) {
        // SAFETY: the caller's.
        unsafe {
            if tile.columns > PANEL {
                rows::<2>(*self, tile);
            } else {
                rows::<1>(*self, tile);
            }
        }
    }
}

/// # Safety
/// As [`TileKernel::tile`].
#[inline(always)]
unsafe fn rows<const V: usize>(proof: Avx512Bf16, tile: &Tile) {
    let mut done = 0;
    macro_rules! tiles {
        ($($R:literal)*) => {{
            $(
                while tile.rows - done >= $R {
                    // SAFETY: the caller's; `done + R <= rows`.
                    unsafe { some_rows::<$R, V>(proof, done, tile) };
                    done += $R;
                }
            )*
        }};
    }
    tiles!(12 8 4 2 1);
}

/// # Safety
/// As [`TileKernel::tile`], for `R` rows from `first` on.
#[inline(always)]
unsafe fn some_rows<const R: usize, const V: usize>(_proof: Avx512Bf16, first: usize, tile: &Tile) {
    // SAFETY: the caller's; the proof is one that the instructions exist. Vectors and pairs have
    // the size of what they are made of.
    unsafe {
        let mut sums: [[__m512; V]; R] = [[_mm512_setzero_ps(); V]; R];
        for block in 0..tile.blocks {
            let left = tile.left.add(block * tile.lhs_block_stride + first * BLOCK);
            let right = tile.right.add(block * pairs::NUMBERS);
            for pair in 0..BLOCK / 2 {
                let columns: [__m512bh; V] = std::array::from_fn(|v| {
                    let at = right.add(v * tile.rhs_panel_stride + pair * 2 * PANEL);
                    transmute(_mm512_loadu_si512(at.cast()))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = left.add(r * BLOCK + pair * 2).cast::<i32>().read_unaligned();
                    let x: __m512bh = transmute(_mm512_set1_epi32(x));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(*sum, x, column);
                    }
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let to = tile.out.add((first + r) * tile.out_row + v * PANEL);
                let own = PANEL.min(tile.columns - v * PANEL);
                let lanes = u16::MAX >> (PANEL - own);
                let sum = if tile.add {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), sum)
                } else {
                    sum
                };
                _mm512_mask_storeu_ps(to, lanes, sum);
            }
        }
    }
}
